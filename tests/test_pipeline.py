import io
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dillema.errors import UserError
from dillema.evaluation import predictions, statistics
from dillema.execution.local import Local

from .backends import SIZE, Backend, Captioner, Editor, Edits, Gate, Generator, Model, Noise, picture, pipeline


def run(tmp_path, name="run", store="store", **parts):
    folder = tmp_path / name
    folder.mkdir()
    return pipeline(tmp_path / store, **parts).run(folder)


def left_behind(folder):
    """Returns all that must not differ between two runs of the same configuration."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "results.json"}
    results = json.loads((folder / "results.json").read_text())
    del results["seconds"]
    return files, results


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_a_run_leaves_behind(tmp_path):
    out = run(tmp_path)
    assert out.results["counts"] == {"sources": 6, "captions": 6, "counterfactuals": 12, "generated": 12, "valid": 12, "failed": 0}
    assert list(out.results["seconds"]) == ["source", "caption", "keywords", "alternatives", "control", "generated", "validity", "quality"]
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == out.results
    assert (tmp_path / "run" / "failures.jsonl").read_text() == ""
    rows = lines(tmp_path / "run" / "generated" / "metadata.jsonl")
    assert len(rows) == 12
    for row in rows:
        assert Image.open(tmp_path / "run" / "generated" / row["file_name"]).size == SIZE
        assert Image.open(tmp_path / "run" / "generated" / row["mask_file_name"]).size == SIZE
        assert all(e["replacement"] in row["counterfactual"] and e["original"] in row["caption"] for e in row["edits"])
        assert row["valid"] and row["scores"]["brightness"] > 0
    mean = out.results["quality"]["ssim"]
    assert mean["mean"] == pytest.approx(sum(row["quality"]["ssim"] for row in rows) / 12) and mean["low"] < mean["mean"] < mean["high"] < 1


@pytest.mark.parametrize(("size", "expected"), [((96, 48), (96, 48)), ("source", SIZE)])
def test_the_generated_set_has_the_size_that_is_asked_for_and_masks_of_whole_classes(tmp_path, size, expected):
    run(tmp_path, size=size, generator=Generator(width=16, height=16))
    for row in lines(tmp_path / "run" / "generated" / "metadata.jsonl"):
        mask = Image.open(tmp_path / "run" / "generated" / row["mask_file_name"])
        assert Image.open(tmp_path / "run" / "generated" / row["file_name"]).size == mask.size == expected
        if size == "source":
            number = int(row["source"].removeprefix("scene-"))
            assert mask.tobytes() == Image.open(io.BytesIO(picture(100 + number, 3))).tobytes()
        assert set(np.unique(mask)) <= {0, 1, 2}


def test_the_second_run_loads_no_model_and_leaves_the_same(tmp_path):
    run(tmp_path)
    Backend.loads.clear()
    run(tmp_path, "again")
    assert Backend.loads == []
    assert left_behind(tmp_path / "run") == left_behind(tmp_path / "again")


def test_a_change_late_in_the_pipeline_repeats_nothing_before_it(tmp_path):
    run(tmp_path)
    Backend.loads.clear()
    run(tmp_path, "again", generator=Generator(strength=2))
    assert Backend.loads == ["Generator", "Gate"]
    assert left_behind(tmp_path / "run")[0] != left_behind(tmp_path / "again")[0]


def test_new_thresholds_need_no_new_scores(tmp_path):
    run(tmp_path)
    Backend.loads.clear()
    assert run(tmp_path, "strict", validity=Gate(least=2.0)).results["counts"]["valid"] == 0
    assert Backend.loads == []


def test_neither_order_nor_batches_nor_company_change_an_image(tmp_path):
    run(tmp_path)
    run(tmp_path, "other", "elsewhere", dataset=Noise(backwards=True, count=7), generator=Generator(batch_size=5), captioner=Captioner(batch_size=1))
    one, other = (left_behind(tmp_path / name)[0] for name in ("run", "other"))
    images = [name for name in one if name.endswith(".png")]
    assert len(images) == 24
    assert all(one[name] == other[name] for name in images)


def test_another_seed_makes_other_images(tmp_path):
    run(tmp_path)
    run(tmp_path, "other", seed=1)
    one, other = (left_behind(tmp_path / name)[0] for name in ("run", "other"))
    assert all(one[name] != other[name] for name in one if "images/" in name)


def test_an_item_that_fails_is_recorded_and_the_rest_goes_on(tmp_path):
    out = run(tmp_path, generator=Generator(fails="night"), dataset=Noise(damaged=2))
    (source, *painted) = lines(tmp_path / "run" / "failures.jsonl")
    assert source["stage"] == "source" and source["id"] == "scene-2" and "cannot be read" in source["message"]
    assert [f["id"] for f in painted] == [f"scene-{i}_1" for i in (0, 1, 3, 4, 5)]
    assert {f["stage"] for f in painted} == {"generated"} and {f["raw"] for f in painted} == {"<b>what?</b>"}
    assert out.results["counts"] == {"sources": 6, "captions": 5, "counterfactuals": 10, "generated": 5, "valid": 5, "failed": 6}


def test_failed_items_are_tried_again_only_when_asked(tmp_path):
    run(tmp_path, generator=Generator(fails="night"))
    Backend.loads.clear()
    assert run(tmp_path, "same", generator=Generator()).results["counts"]["failed"] == 6
    assert Backend.loads == []
    healed = run(tmp_path, "healed", generator=Generator(), execution=Local(retry_failed=True))
    assert healed.results["counts"]["failed"] == 0
    run(tmp_path, "undisturbed", "elsewhere")
    assert left_behind(tmp_path / "healed") == left_behind(tmp_path / "undisturbed")


def test_too_many_failures_stop_the_run_and_keep_what_is_finished(tmp_path):
    with pytest.raises(UserError, match=r"execution\.max_failures"):
        run(tmp_path, generator=Generator(fails="night", batch_size=2), execution=Local(max_failures=3))
    assert len(lines(tmp_path / "run" / "failures.jsonl")) == 4
    diary = tmp_path / "diary"
    run(tmp_path, "again", generator=Generator(diary=str(diary), batch_size=2), execution=Local(retry_failed=True))
    assert len(diary.read_text().splitlines()) == 12  # eight that failed or were not reached, and the four beside the failed ones in their batches


def test_an_unexpected_exception_of_a_backend_is_an_items_failure_with_its_kind(tmp_path):
    class Broken(Generator):
        def generate(self, samples, counterfactuals, controls, seeds):
            raise RuntimeError("shapes do not match")

    out = run(tmp_path, generator=Broken())
    assert {f["message"] for f in out.failures} == {"RuntimeError: shapes do not match"}
    assert out.results["counts"]["generated"] == 0


def test_ctrl_c_in_the_middle_then_the_same_command(tmp_path):
    class Interrupted(Editor):
        def alternatives(self, caption, spans, narrowed, seed):
            if len(Path(self.diary).read_text().splitlines()) > 10:
                raise KeyboardInterrupt
            return super().alternatives(caption, spans, narrowed, seed)

    Interrupted.__module__, Interrupted.__qualname__ = Editor.__module__, Editor.__qualname__  # the same back-end, as far as the store can tell
    diary = tmp_path / "diary"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, editor=Interrupted(diary=str(diary)))
    run(tmp_path, "again", editor=Editor(diary=str(diary)))
    run(tmp_path, "undisturbed", "elsewhere")
    assert len(diary.read_text().splitlines()) == 6 + 12
    assert left_behind(tmp_path / "again") == left_behind(tmp_path / "undisturbed")


def test_kill_9_at_random_moments_then_the_same_command(tmp_path):
    command = [sys.executable, "-c", "from tests.backends import main; main()", str(tmp_path)]
    moments, killed = random.Random(1), 0
    for i in range(6):
        process = subprocess.Popen([*command, f"killed-{i}", "0.02"])
        diary, start = tmp_path / "diary", time.monotonic()
        begun = len(diary.read_text().splitlines()) if diary.exists() else 0
        while process.poll() is None and time.monotonic() - start < 30:  # it first has to start
            if diary.exists() and len(diary.read_text().splitlines()) > begun:
                break
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 3
    subprocess.run([*command, "finished", "0"], check=True)
    run(tmp_path, "undisturbed", "elsewhere")
    assert left_behind(tmp_path / "finished") == left_behind(tmp_path / "undisturbed")
    # 60 items, and for each kill at most the batch that was under way
    assert len((tmp_path / "diary").read_text().splitlines()) <= 60 + 4 * killed


def test_ids_that_cannot_be_file_names_are_refused(tmp_path):
    class Escaping(Noise):
        def samples(self):
            return [type(s)(f"../{s.id}", s.read_image, s.read_mask) for s in super().samples()]

    with pytest.raises(UserError, match="ids name files"):
        run(tmp_path, dataset=Escaping())

    class Twice(Noise):
        def samples(self):
            return super().samples() * 2

    with pytest.raises(UserError, match="two samples called scene-0"):
        run(tmp_path, "twice", dataset=Twice())


def test_a_plan_without_variants_makes_nothing_and_ends_well(tmp_path):
    class Nothing(Edits):
        def plan(self, sources, vary, count, seed):
            return {source: [] for source in sources}

    out = run(tmp_path, edits=Nothing())
    assert out.results["counts"]["generated"] == 0
    assert (tmp_path / "run" / "generated" / "metadata.jsonl").read_text() == ""


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_model_under_test_is_scored_on_pairs(tmp_path, task):
    model = Model(task=task)
    out = run(tmp_path, dataset=Noise(task=task), models=(model,), validity=Gate(least=0.5))
    figures = out.results["models"]["brightest"]
    main = figures["metric"]
    assert main == {"segmentation": "mean_iou", "classification": "accuracy"}[task]
    assert figures["drop"] == pytest.approx(figures["original"][main] - figures["counterfactual"][main])
    assert figures["all"]["images"] == 12 and figures["images"] == out.results["counts"]["valid"] < 12
    assert {row["attribute"] for row in figures["all"]["per_attribute"]} == {"weather", "time of day"}
    assert (figures["flip_rate"] is None) == (task == "segmentation")
    assert ("label" in lines(tmp_path / "run" / "generated" / "metadata.jsonl")[0]) == (task == "classification")
    said = predictions.read(tmp_path / "run" / "predictions.parquet", "brightest", Noise(task=task))
    assert statistics.compare(said, said, Noise(task=task), 0)["drop"]["a"] == pytest.approx(figures["drop"])  # a new figure from the file alone
    Backend.loads.clear()
    run(tmp_path, "again", dataset=Noise(task=task), models=(model,), validity=Gate(least=0.5))
    assert Backend.loads == []
    assert left_behind(tmp_path / "run") == left_behind(tmp_path / "again")


def test_where_the_data_set_can_make_the_real_image_the_truth_is_known(tmp_path):
    class Rendered(Noise):
        def render(self, sample, edits):
            return None if any(e.replacement == "night" for e in edits) else lambda: sample.image

    out = run(tmp_path, dataset=Rendered(task="classification"), models=(Model(task="classification"),))
    truth = out.results["models"]["brightest"]["truth"]
    assert (truth["n"], truth["sources"], truth["true"]) == (6, 6, 0)
    assert truth["error"] == pytest.approx(truth["estimated"])
    assert {row["attribute"] for row in truth["per_attribute"]} == {"weather"}


def test_many_sources_take_the_steps_in_blocks_whose_sizes_and_order_change_nothing(tmp_path, monkeypatch, caplog):
    parts = {"models": (Model(), Model(name="same")), "validity": Gate(least=0.5)}
    whole = run(tmp_path, **parts)
    monkeypatch.setattr("dillema.pipeline.BLOCK", 4)
    with caplog.at_level("INFO", "dillema"):
        cut = run(tmp_path, "cut", "elsewhere", dataset=Noise(backwards=True), **parts)
    assert "4 of 6 sources are done" in caplog.text and "6 of 6 sources are done" in caplog.text
    (one, figures), (other, same) = (left_behind(tmp_path / name) for name in ("run", "cut"))
    assert figures == same
    assert all(one[name] == other[name] for name in one if name.endswith(".png"))
    assert sorted(one["generated/metadata.jsonl"].splitlines()) == sorted(other["generated/metadata.jsonl"].splitlines())
    assert len(cut.pairs) == 12 and {(p.id, p.counterfactual, p.image.name) for p in cut.pairs} == {(p.id, p.counterfactual, p.image.name) for p in whole.pairs}


def test_the_pairs_are_read_as_they_were_made(tmp_path):
    out = run(tmp_path, "run", validity=Gate(least=0.5), size=(96, 48))
    for pair in out.pairs:
        assert pair.painted().size == SIZE  # the image in the store, not that of the size asked for
        assert pair.controls.keys() == {"grey"} and Image.open(pair.controls["grey"]).size == SIZE
        assert pair.sample.attributes == {"weather": "clear"} and pair.counterfactual.edits
        assert all(edit.replacement in pair.counterfactual.text and edit.original in pair.caption.text for edit in pair.counterfactual.edits)
        assert pair.verdict.valid == (pair.verdict.scores["brightness"] >= 0.5) and pair.quality.keys() == {"ssim", "psnr"}
