"""Gates that are added to a finished run, from its folder alone."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from PIL import Image

from dillema.config_check import check
from dillema.context import JobContext
from dillema.errors import UserError
from dillema.job.judge import judge
from dillema.job.score import find_mistakes, score
from dillema.run_folder import RunFolder
from dillema.validity.segmenter import SegmenterGate
from tests import tiny
from tests.backends import Gate, Generator, Model, Noise, run_pipeline
from tests.test_config import composed

LARGE = Generator(width=64, height=64)  # what the small segmenter needs
EXECUTION = {"_target_": "dillema.execution.local.Local"}
BRIGHTNESS = {"_target_": "tests.backends.Gate", "least": 0.4995}
IMAGE = {"_target_": "dillema.validity.image.ImageGate", "min_sharpness": 0.3}


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return {
        "_target_": "dillema.validity.segmenter.SegmenterGate",
        "model": tiny.judge(tmp_path_factory.mktemp("judge")),
        "min_agreement": 0.3,
        "class_map": {0: 0, 1: 1, 2: 2},
        "device": "cpu",
    }


def finished_run(tmp_path, *gates, name="run", task="segmentation", **settings):
    """Returns the folder of a run with the settings that Hydra leaves."""
    folder, _ = run_pipeline(
        tmp_path / name,
        tmp_path / "store",
        gates=list(gates),
        models=[Model(task=task)],
        dataset=Noise(4, task),
        placebos=1,
        generator=LARGE,
        **settings,
    )
    hydra = folder.path / ".hydra"
    hydra.mkdir()
    config = {
        "dataset": {"vary": {"weather": ["clear", "rainy"]}},
        "validity": {"brightness": BRIGHTNESS} if gates else {},
        "model": {"brightest": {"_target_": "tests.backends.Model"}},
    }
    OmegaConf.save(OmegaConf.create(config), hydra / "config.yaml")
    OmegaConf.save(OmegaConf.create({"hydra": {"runtime": {"choices": {}}}}), hydra / "hydra.yaml")
    OmegaConf.save(OmegaConf.create(["dataset=noise"]), hydra / "overrides.yaml")
    return RunFolder.open(folder.path)


def job(function, tmp_path, run, name, validity, *overrides, store="other_store"):
    """Runs a job on a finished run, as Hydra would."""
    path = tmp_path / name
    path.mkdir()
    cfg = {
        "run": str(run), "validity": validity, "name": name, "store": str(tmp_path / store),
        "execution": EXECUTION, "max_failures": 50, "retry_failed": False,
    }  # fmt: skip
    return function(JobContext(OmegaConf.create(cfg), path, overrides))


def table(folder):
    rows = pq.read_table(folder.predictions_file)
    return rows.select(sorted(rows.column_names)).to_pydict()


def test_a_run_with_an_added_gate_is_the_run_that_had_it_from_the_start(tmp_path, segmenter):
    brightness = Gate(least=0.4995)
    arguments = {name: value for name, value in segmenter.items() if name != "_target_"}
    first = finished_run(tmp_path, brightness)
    both, _ = run_pipeline(
        tmp_path / "both", tmp_path / "store", gates=[brightness, SegmenterGate(**arguments)],
        models=[Model()], dataset=Noise(4), placebos=1, generator=LARGE,
    )  # fmt: skip
    shutil.rmtree(tmp_path / "store")  # nothing but the folder is needed
    scored = job(score, tmp_path, first.path, "scored", {"segmenter": segmenter}, "validity=segmenter")
    assert table(scored) == table(both)
    ours, theirs = ({**folder.results} for folder in (scored, both))
    assert ours["gates"] == ["brightness", "segmenter"] and ours["judged"] == str(first.path)
    assert ours["counts"] == theirs["counts"] and ours["models"] == theirs["models"]
    for part in ("generated", "placebos"):
        images, expected = (list(getattr(folder, part)()) for folder in (scored, both))
        assert [image.verdict for image in images] == [image.verdict for image in expected]
        assert all(image.path.exists() for image in images)
    page = (scored.path / "report.html").read_text()
    assert "segmenter" in page and "by brightness" in page
    # the scored run is judged with other thresholds of both gates
    strict = job(
        judge, tmp_path, scored.path, "strict",
        {"segmenter": {**segmenter, "min_agreement": 1.0}, "brightness": BRIGHTNESS},
        "validity.segmenter.min_agreement=1.0",
    )  # fmt: skip
    assert strict.results["counts"]["valid"] == 0
    assert strict.results["gates"] == ["brightness", "segmenter"]
    assert strict.settings.config["dataset"] == first.settings.config["dataset"]
    reasons = {r.partition(":")[0] for image in strict.generated() for r in image.verdict.reasons}
    assert reasons == {"brightness", "segmenter"}


def test_scores_of_a_gate_of_the_same_name_are_replaced_and_finished_work_is_kept(tmp_path):
    run = finished_run(tmp_path, Gate())
    again = {"_target_": "tests.backends.Gate", "least": 0.6, "diary": str(tmp_path / "diary")}
    for name in ("first", "second"):
        scored = job(score, tmp_path, run.path, name, {"brightness": again}, "validity=brightness")
        assert scored.results["gates"] == ["brightness"] and scored.results["counts"]["valid"] == 0
    assert len((tmp_path / "diary").read_text().splitlines()) == 12  # each image once in both jobs
    assert scored.results["seconds"]["gate brightness"] > 0


def test_an_image_that_cannot_be_scored_is_listed_and_does_not_count(tmp_path):
    run = finished_run(tmp_path, task="classification")
    gate = {"_target_": "tests.backends.Gate", "fails": "scene-1"}
    scored = job(score, tmp_path, run.path, "scored", {"brightness": gate}, "validity=brightness")
    assert [failure["id"] for failure in scored.failures()] == ["scene-1_0", "scene-1_1", "scene-1_placebo"]
    assert {failure["step"] for failure in scored.failures()} == {"gate brightness"}
    for image in scored.generated():
        is_scored = image.source != "scene-1"
        assert image.verdict.valid == is_scored == ("brightness.mean" in image.verdict.scores)
        assert is_scored or image.verdict.reasons == ("brightness: could not be scored",)
    assert scored.results["counts"] | {"valid": 6, "failed": 3} == scored.results["counts"]


def test_images_of_another_size_are_scored_with_a_warning(tmp_path, caplog):
    run = finished_run(tmp_path, size=(96, 96))
    scored = job(score, tmp_path, run.path, "scored", {"image": IMAGE}, "validity=image")
    assert "written in another size than they were generated in" in caplog.text
    assert all(image.verdict.scores for image in scored.generated())


def test_what_is_missing_is_said(tmp_path):
    run = finished_run(tmp_path)
    with pytest.raises(UserError, match=r"name the gates to add, as in validity=clip"):
        job(score, tmp_path, run.path, "unnamed", {"image": IMAGE})
    with pytest.raises(UserError, match=r"has no scores of the gate image.*job=score adds them"):
        job(judge, tmp_path, run.path, "judged", {"image": IMAGE}, "validity=image")
    with pytest.raises(UserError, match=r"holds no finished run"):
        job(score, tmp_path, tmp_path / "nowhere", "nowhere", {"image": IMAGE}, "validity=image")


def test_a_model_that_was_tested_in_the_run_is_not_added_as_a_gate(tmp_path):
    run = finished_run(tmp_path)
    model = tiny.judge(tmp_path / "weights")
    settings = OmegaConf.load(run.path / ".hydra" / "config.yaml")
    settings.model.brightest = {
        "_target_": "dillema.model.transformers.TransformersSegmentation",
        "name": "brightest",
        "model": model,
    }
    OmegaConf.save(settings, run.path / ".hydra" / "config.yaml")
    chosen = ["job=score", f"run={run.path}", "validity=segmenter", f"validity.segmenter.model={model}"]
    (mistake,) = find_mistakes(composed(*chosen))
    assert "is a model under test (model.brightest.model)" in mistake
    with pytest.raises(UserError, match="a gate must be independent"):
        check(composed(*chosen))
    # the gate of the small world is of the same family
    with pytest.raises(UserError, match=r"is of the same family \(upernet\) as a model under test"):
        check(composed(*chosen[:3]))
    check(composed(*chosen[:2], "validity=image"))


def test_masks_and_attributes_are_those_of_the_folder(tmp_path):
    run = finished_run(tmp_path, Gate())
    image = next(iter(run.generated()))
    assert image.attributes == {"weather": "clear"}
    row = json.loads((run.path / "generated" / "metadata.jsonl").read_text().splitlines()[0])
    mask = np.asarray(Image.open(run.path / "generated" / row["mask_file_name"]))
    assert set(np.unique(mask)) == {0, 1, 2}
