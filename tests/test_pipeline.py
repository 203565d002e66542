import io
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from dillema.counterfactual.edits import Pairwise, Random, Single
from dillema.errors import UserError
from dillema.execution.local import Local

from .backends import (
    SIZE,
    Backend,
    Captioner,
    Editor,
    Gate,
    Generator,
    Model,
    Noise,
    noise_image,
    run_pipeline,
)

STRATEGIES = [Random(), Single(), Pairwise()]


def run(tmp_path, name="run", store="store", **parts):
    return run_pipeline(tmp_path / name, tmp_path / store, **parts)[0]


def left_behind(folder):
    """Returns everything that must be equal in two runs of the same configuration."""
    paths = sorted(p for p in folder.path.rglob("*") if p.is_file() and p.name != "results.json")
    results = {k: v for k, v in folder.results.items() if k not in ("seconds", "wall_seconds")}
    return {str(p.relative_to(folder.path)): p.read_bytes() for p in paths}, results


def images(folder):
    return {name: content for name, content in left_behind(folder)[0].items() if name.endswith(".png")}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_a_run_leaves_behind(tmp_path):
    folder = run(tmp_path, placebos=1)
    counts = {
        "sources": 6,
        "captions": 6,
        "counterfactuals": 12,
        "generated": 12,
        "valid": 12,
        "placebos": 6,
        "failed": 0,
    }
    assert folder.results["counts"] == counts
    steps = [
        "source",
        "caption",
        "keywords",
        "rewrite",
        "control",
        "generate",
        "gate brightness",
        "similarity",
    ]
    assert list(folder.results["seconds"]) == steps
    assert sum(sum(values.values()) for values in folder.results["plan"].values()) >= 12
    assert folder.failures() == []
    rows = lines(folder.path / "generated" / "metadata.jsonl")
    assert len(rows) == 12
    for row in rows:
        assert Image.open(folder.path / "generated" / row["file_name"]).size == SIZE
        assert Image.open(folder.path / "generated" / row["mask_file_name"]).size == SIZE
        assert all(
            e["replacement"] in row["counterfactual"] and e["original"] in row["caption"]
            for e in row["edits"]
        )
        assert row["valid"] and row["scores"]["brightness.mean"] > 0
    mean = folder.results["quality"]["ssim"]
    assert mean["mean"] == pytest.approx(sum(row["quality"]["ssim"] for row in rows) / 12)
    assert mean["low"] < mean["mean"] < mean["high"] < 1
    placebos = list(folder.placebos())
    assert len(placebos) == 6 and all(p.caption.text == p.counterfactual.text for p in placebos)
    assert len(list((folder.path / "placebo" / "images").iterdir())) == 6


@pytest.mark.parametrize(("size", "expected"), [([96, 48], (96, 48)), ("source", SIZE)])
def test_the_generated_set_has_the_size_that_is_asked_for_and_masks_of_whole_classes(
    tmp_path, size, expected
):
    folder = run(tmp_path, size=size, generator=Generator(width=16, height=16))
    for row in lines(folder.path / "generated" / "metadata.jsonl"):
        mask = Image.open(folder.path / "generated" / row["mask_file_name"])
        assert Image.open(folder.path / "generated" / row["file_name"]).size == mask.size == expected
        if size == "source":
            index = int(row["source"].removeprefix("scene-"))
            assert mask.tobytes() == Image.open(io.BytesIO(noise_image(100 + index, 3))).tobytes()
        assert set(np.unique(mask)) <= {0, 1, 2}


def test_the_second_run_loads_no_model_and_leaves_the_same(tmp_path):
    first = run(tmp_path)
    Backend.loads.clear()
    again = run(tmp_path, "again")
    assert Backend.loads == []
    assert left_behind(first) == left_behind(again)


def test_a_run_in_the_folder_of_another_replaces_it_whole(tmp_path):
    first = left_behind(run(tmp_path, "other", "elsewhere", dataset=Noise(count=3)))
    run(tmp_path)
    assert left_behind(run(tmp_path, dataset=Noise(count=3))) == first


def test_a_change_late_in_the_pipeline_repeats_nothing_before_it(tmp_path):
    first = run(tmp_path)
    Backend.loads.clear()
    again = run(tmp_path, "again", generator=Generator(strength=2))
    assert Backend.loads == ["Generator", "Gate"]
    assert left_behind(first)[0] != left_behind(again)[0]


def test_new_thresholds_need_no_new_scores(tmp_path):
    run(tmp_path)
    Backend.loads.clear()
    strict = run(tmp_path, "strict", gates=[Gate(least=2.0)])
    assert strict.results["counts"]["valid"] == 0 and Backend.loads == []
    assert all("is below 2.0" in image.verdict.reasons[0] for image in strict.generated())


def test_a_gate_scores_again_when_the_data_set_corrects_an_attribute(tmp_path):
    class Corrected(Noise):
        def samples(self):
            return [replace(s, attributes={"weather": "foggy"}) for s in super().samples()]

    class Reader(Gate):
        def score(self, samples, counterfactuals, images, dataset):
            return [{"mean": float(s.attributes["weather"] == "foggy")} for s in samples]

    for data, expected in ((Noise(), 0.0), (Corrected(), 1.0)):
        folder = run(tmp_path, dataset=data, gates=[Reader()])
        assert {image.verdict.scores["brightness.mean"] for image in folder.generated()} == {expected}


def test_labels_may_be_numbers_of_numpy(tmp_path):
    class Numpy(Noise):
        def samples(self):
            return [replace(s, label=np.int64(s.label)) for s in super().samples()]

    parts = {"task": "classification", "count": 3}
    folder = run(tmp_path, dataset=Numpy(**parts), models=[Model(task="classification")])
    assert [image.label["label"] for image in folder.generated()] == [0, 0, 1, 1, 2, 2]


def test_several_gates_must_all_pass(tmp_path):
    folder = run(tmp_path, gates=[Gate(), Gate(name="strict", least=0.5)])
    for image in folder.generated():
        assert image.verdict.scores.keys() == {"brightness.mean", "strict.mean"}
        assert image.verdict.valid == (image.verdict.scores["strict.mean"] >= 0.5)
    assert 0 < folder.results["counts"]["valid"] < 12 and folder.results["gates"] == ["brightness", "strict"]


def test_a_reason_may_be_one_text(tmp_path):
    class Sentence(Gate):
        def reasons(self, scores):
            return "too dark"

    folder = run(tmp_path, gates=[Sentence(name="light")], max_failures=0)
    assert {image.verdict.reasons for image in folder.generated()} == {("light: too dark",)}


def test_a_threshold_for_a_class_that_the_data_set_lacks_is_refused_in_a_finished_run_too(tmp_path):
    gate = Gate()
    run(tmp_path, gates=[gate])
    gate.min_class_agreements = {"roads": 0.2}
    with pytest.raises(UserError, match=r"min_class_agreements: .* a class roads; did you mean road"):
        run(tmp_path, gates=[gate])


def test_without_a_gate_nothing_was_checked(tmp_path):
    folder = run(tmp_path, gates=[])
    assert folder.results["gates"] == [] and not any(image.verdict.checked for image in folder.generated())


def test_an_image_that_a_gate_cannot_score_does_not_count(tmp_path):
    folder = run(tmp_path, gates=[Gate(fails="scene-2")])
    rejected = {
        image.source: image.verdict.reasons for image in folder.generated() if not image.verdict.valid
    }
    assert rejected == {"scene-2": ("brightness: could not be scored",)}


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_neither_order_nor_batches_nor_blocks_nor_company_change_an_image(tmp_path, monkeypatch, strategy):
    in_one_block = images(run(tmp_path, edits=strategy))
    monkeypatch.setattr("dillema.execution.local.Local.block_size", 4)
    parts = {"generator": Generator(batch_size=5), "captioner": Captioner(batch_size=1), "edits": strategy}
    cut = images(run(tmp_path, "other", "elsewhere", dataset=Noise(backwards=True, count=7), **parts))
    assert len([name for name in in_one_block if name.startswith("generated/images")]) == 12
    assert all(cut[name] == content for name, content in in_one_block.items())


def test_another_seed_makes_other_images(tmp_path):
    first, later = images(run(tmp_path)), images(run(tmp_path, "other", seed=1))
    assert all(
        first[name] != later[name] for name in first if name.startswith("generated/images") and name in later
    )


def test_a_run_that_ends_well_does_not_stop_its_executor(tmp_path):
    class Parallel(Local):
        blocks, block_size = 3, 2
        stops: ClassVar[list[str]] = []

        def stop(self):
            self.stops.append("stopped")

    executor = Parallel()
    assert run(tmp_path, executor=executor).results["counts"]["sources"] == 6
    assert executor.stops == []


def test_blocks_of_two_seeds_draw_other_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("dillema.execution.local.Local.block_size", 3)
    edits = [
        [
            image.counterfactual.edits
            for image in run(tmp_path, f"seed-{seed}", seed=seed, dataset=Noise(count=9)).generated()
        ]
        for seed in (0, 1)
    ]
    assert edits[0][6:12] != edits[1][:6]


def test_ctrl_c_in_the_middle_then_the_same_command(tmp_path):
    class Interrupted(Editor):
        def rewrite(self, *arguments):
            if len(Path(self.diary).read_text().splitlines()) > 10:
                raise KeyboardInterrupt
            return super().rewrite(*arguments)

    # the same back-end, as far as the store can tell
    Interrupted.__module__, Interrupted.__qualname__ = Editor.__module__, Editor.__qualname__
    diary = tmp_path / "diary"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, editor=Interrupted(diary=str(diary)))
    again = run(tmp_path, "again", editor=Editor(diary=str(diary)))
    assert len(diary.read_text().splitlines()) == 6 + 12
    assert left_behind(again) == left_behind(run(tmp_path, "undisturbed", "elsewhere"))


def test_kill_9_at_random_moments_then_the_same_command(tmp_path):
    command = [sys.executable, "-c", "from tests.backends import main; main()", str(tmp_path)]
    moments, killed = random.Random(1), 0
    diary = tmp_path / "diary"
    for i in range(6):
        process = subprocess.Popen([*command, f"killed-{i}", "0.02"])
        start = time.monotonic()
        begun = len(diary.read_text().splitlines()) if diary.exists() else 0
        while process.poll() is None and time.monotonic() - start < 60:  # it first has to start
            if diary.exists() and len(diary.read_text().splitlines()) > begun:
                break
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 3
    subprocess.run([*command, "finished", "0"], check=True)
    from dillema.run_folder import RunFolder

    finished = RunFolder.open(tmp_path / "finished")
    assert left_behind(finished) == left_behind(run(tmp_path, "undisturbed", "elsewhere"))
    # 54 items, and for each kill at most the batch that was under way
    assert len(diary.read_text().splitlines()) <= 54 + 4 * killed


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


def test_a_strategy_that_fails_is_named_with_the_place_of_its_mistake(tmp_path):
    class Failing(Random):
        def plan(self, *arguments):
            raise KeyError("weather")

    with pytest.raises(
        UserError, match=r"edits: Failing failed to plan scene-0: KeyError.*test_pipeline\.py, line"
    ):
        run(tmp_path, edits=Failing())


def test_a_plan_without_variants_makes_nothing_and_ends_well(tmp_path):
    class Nothing(Random):
        def plan(self, *arguments):
            return []

    folder = run(tmp_path, edits=Nothing(), models=[Model()])
    assert folder.results["counts"]["generated"] == 0 and list(folder.generated()) == []
    assert folder.results["models"]["brightest"]["images"] == 0


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_model_under_test_is_scored_on_pairs(tmp_path, task):
    parts = {
        "dataset": Noise(task=task),
        "models": [Model(task=task)],
        "gates": [Gate(least=0.5)],
        "placebos": 1,
    }
    folder = run(tmp_path, **parts)
    figures = folder.results["models"]["brightest"]
    main = figures["metric"]
    assert main == {"segmentation": "mean_iou", "classification": "accuracy"}[task]
    assert figures["drop"] == pytest.approx(figures["original"][main] - figures["counterfactual"][main])
    assert figures["all"]["images"] == 12 and figures["images"] == folder.results["counts"]["valid"] < 12
    assert {row["attribute"] for row in figures["per_attribute"]} == {"weather", "time of day"}
    assert (figures["flip_rate"] is None) == (task == "segmentation")
    assert ("label" in lines(folder.path / "generated" / "metadata.jsonl")[0]) == (task == "classification")
    assert figures["placebo"]["n"] == sum(p.verdict.valid for p in folder.placebos())
    Backend.loads.clear()
    again = run(tmp_path, "again", **parts)
    assert Backend.loads == []
    assert left_behind(folder) == left_behind(again)


def test_frames_of_one_video_are_one_unit_of_the_intervals(tmp_path):
    folder = run(tmp_path, dataset=Noise(count=8, group_size=4), models=[Model()])
    assert (
        folder.results["models"]["brightest"]["groups"] == 2
        and folder.results["models"]["brightest"]["sources"] == 8
    )


def test_where_the_data_set_can_make_the_real_image_the_truth_is_known(tmp_path):
    class Rendered(Noise):
        def render(self, sample, edits):
            return None if any(e.replacement != "foggy" for e in edits) else lambda: sample.image

    folder = run(
        tmp_path, dataset=Rendered(task="classification", count=20), models=[Model(task="classification")]
    )
    truth = folder.results["models"]["brightest"]["truth"]
    assert truth["n"] > 0 and truth["true"] == 0
    assert truth["error"] == pytest.approx(truth["estimated"])
    assert {row["to"] for row in truth["per_attribute"]} == {"foggy"}


def test_the_images_of_a_run_are_read_as_they_were_made(tmp_path):
    folder = run(tmp_path, gates=[Gate(least=0.5)], size=[96, 48])
    for image in folder.generated():
        assert Image.open(image.path).size == (96, 48) and Image.open(image.original).size == SIZE
        assert image.controls.keys() == {"grey"} and Image.open(image.controls["grey"]).size == SIZE
        assert image.counterfactual.edits and image.source in image.id
        assert image.verdict.valid == (image.verdict.scores["brightness.mean"] >= 0.5)
        assert image.quality.keys() == {"ssim", "psnr"}
