"""Items that fail: they are recorded, the rest of the run goes on, and they are tried again when asked."""

from dataclasses import replace

import pytest

from dillema.errors import UserError

from .backends import Backend, Conditioning, Generator, Noise, noise_image
from .test_pipeline import left_behind, lines, run


def test_an_item_that_fails_is_recorded_and_the_rest_goes_on(tmp_path):
    folder = run(tmp_path, generator=Generator(fails="scene-3"), dataset=Noise(damaged=2))
    source, *failed = folder.failures()
    assert source["step"] == "source" and source["id"] == "scene-2" and "cannot be read" in source["message"]
    assert [f["id"] for f in failed] == ["scene-3_0", "scene-3_1"]
    assert {f["step"] for f in failed} == {"generate"} and {f["raw"] for f in failed} == {"<b>what?</b>"}
    counts = {
        "sources": 6,
        "captions": 5,
        "counterfactuals": 10,
        "generated": 8,
        "valid": 8,
        "placebos": 0,
        "failed": 3,
    }
    assert folder.results["counts"] == counts


def test_an_image_that_cannot_be_encoded_fails_alone(tmp_path, caplog):
    class Profiled(Conditioning):
        def control(self, sample, dataset, size):
            control = super().control(sample, dataset, size)
            control.image.info["icc_profile"] = "text" if sample.id == "scene-3" else b""
            return control

    folder = run(tmp_path, conditionings={"grey": Profiled()})
    assert [(f["step"], f["id"]) for f in folder.failures()] == [("control", "scene-3")]
    assert "Traceback" in caplog.text and folder.results["counts"]["generated"] == 10


def test_failed_items_are_tried_again_only_when_asked(tmp_path):
    run(tmp_path, generator=Generator(fails="scene-3"))
    Backend.loads.clear()
    assert run(tmp_path, "same", generator=Generator()).results["counts"]["failed"] == 2
    assert Backend.loads == []
    healed = run(tmp_path, "healed", generator=Generator(), retry_failed=True)
    assert healed.results["counts"]["failed"] == 0
    assert left_behind(healed) == left_behind(run(tmp_path, "undisturbed", "elsewhere"))


def test_too_many_failures_stop_the_run_and_keep_what_is_finished(tmp_path):
    with pytest.raises(UserError, match="max_failures=30"):
        run(tmp_path, generator=Generator(fails="street", batch_size=2), max_failures=3)
    # the batch that was computed meanwhile is kept, too
    assert len(lines(tmp_path / "run" / "failures.jsonl")) == 6
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_step_in_which_everything_fails_ends_the_run_with_the_most_frequent_message(tmp_path):
    with pytest.raises(
        UserError, match="all 12 items of the step generate failed, most often because: no street here"
    ):
        run(tmp_path, generator=Generator(fails="street"))


def test_a_block_in_which_everything_fails_does_not_end_the_run(tmp_path, monkeypatch):
    parts = {"dataset": Noise(count=5, damaged=4)}
    in_one_block = left_behind(run(tmp_path, **parts))
    monkeypatch.setattr("dillema.execution.local.Local.block_size", 4)
    assert left_behind(run(tmp_path, "other", "elsewhere", **parts)) == in_one_block
    with pytest.raises(UserError, match="all 12 items of the step generate failed"):
        run(tmp_path, "failed", "failed", generator=Generator(fails="street"))


def test_the_failures_of_equal_files_are_listed_under_the_id_of_each(tmp_path):
    class Empty(Noise):
        def samples(self):
            return [
                replace(s, read_image=bytes, read_mask=lambda: noise_image(9, 3)) if i < 2 else s
                for i, s in enumerate(super().samples())
            ]

    class Renamed(Empty):
        def samples(self):
            return [replace(s, id=f"renamed-{s.id}") for s in super().samples()]

    for name in ("first", "from the store"):
        failures = run(tmp_path, name, dataset=Empty()).failures()
        assert [failure["id"] for failure in failures] == ["scene-0", "scene-1"]
    failures = run(tmp_path, "renamed", dataset=Renamed()).failures()
    assert [failure["id"] for failure in failures] == ["renamed-scene-0", "renamed-scene-1"]


def test_an_unexpected_exception_of_a_backend_is_an_items_failure_with_its_kind(tmp_path):
    class Broken(Generator):
        def generate(self, samples, counterfactuals, controls, seeds):
            if any(sample.id == "scene-3" for sample in samples):
                raise RuntimeError("shapes do not match")
            return super().generate(samples, counterfactuals, controls, seeds)

    folder = run(tmp_path, generator=Broken())
    assert {f["message"] for f in folder.failures()} == {"RuntimeError: shapes do not match"}
    assert folder.results["counts"]["generated"] == 10
