"""The gates that real data sets choose, end to end on small checkpoints of their real formats."""
# ruff: noqa: F811  # the fixtures of another module

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dillema import hub as weights
from dillema.run_folder import RunFolder
from tests import tiny
from tests.test_experiments import dillema, generated, hub, photographs, resnets, streets  # noqa: F401

QUESTIONS = ("edited", "label", "original", "original_label")


def scores(folder):
    """Returns the names of the scores that at least one counterfactual has."""
    table = pq.read_table(folder / "predictions.parquet").to_pydict()
    return {
        name.removeprefix("score:")
        for name, values in table.items()
        if name.startswith("score:") and any(value is not None for value in values)
    }


def check_page(folder, *gates):
    run = RunFolder.open(folder)
    page = (folder / "report.html").read_text()
    assert run.results["gates"] == list(gates)
    for gate in gates:
        assert f">by {gate}</th>" in page
    reasons = [reason for image in run.generated() for reason in image.verdict.reasons]
    assert reasons and all(reason in page for reason in reasons[:1])
    assert "were rejected" in page and "nothing changed (placebos)" in page
    return run


def test_classification_asks_questions_and_compares_with_clip(dillema, resnets, monkeypatch):
    for wnid in ("n01440764", "n02109047"):
        photographs(Path("data/imagenet/val"), wnid)
    opened, load = [], weights.load
    monkeypatch.setattr(weights, "load", lambda kind, *names, **options: opened.append(kind.__name__) or load(
        kind, *names, **options
    ))  # fmt: skip
    folder = dillema("dataset=imagenet", "generator.steps=2", "validity.questions.dtype=float32")
    assert opened.count("AutoModelForImageTextToText") == 1  # the captioner's, which the gate asks too
    run = check_page(folder, "questions", "clip", "image")
    assert scores(folder) >= {f"questions.{name}" for name in QUESTIONS if name != "original"}
    assert scores(folder) >= {
        "clip.image_image", "clip.text_generated", "clip.direction", "clip.label", "image.sharpness",
    }  # fmt: skip
    changed = {image.source: [] for image in run.placebos()}
    for image in run.generated():
        changed[image.source] += [edit.attribute for edit in image.counterfactual.edits if edit.original]
    assert any(changed.values())
    for image in run.placebos():  # nothing was edited: it is asked for the old values of what others change
        asked = [name for name in image.verdict.scores if name.startswith("questions.unchanged")]
        assert len(asked) == len(set(changed[image.source])) and "questions.label" in image.verdict.scores
        assert not any(name.startswith("questions.edited") for name in image.verdict.scores)


def test_segmentation_compares_masks_by_a_segmenter_of_another_family(dillema):
    streets("discrete/images/val/front")
    folder = dillema("dataset=shift", "generator.steps=2", "model.segformer_cityscapes.device=cpu")
    run = check_page(folder, "segmenter", "questions", "image")
    assert scores(folder) >= {"segmenter.agreement", "questions.edited", "image.brightness"}
    assert "questions.label" not in scores(folder)  # streets have no label
    settings = run.settings.config
    assert "mask2former" in settings["validity"]["segmenter"]["model"]
    assert "segformer" in settings["model"]["segformer_cityscapes"]["model"]


@pytest.mark.parametrize("dataset", ["cityscapes"])
def test_the_classes_of_cityscapes_are_compared_as_they_are(dillema, dataset):
    root = Path("data/cityscapes")
    for seed, name in enumerate(("ulm/ulm_000001_000019", "bonn/bonn_000002_000019")):
        image = root / f"leftImg8bit/val/{name}_leftImg8bit.png"
        mask = root / f"gtFine/val/{name}_gtFine_labelTrainIds.png"
        street(seed, image, mask)
    for seed, condition in enumerate(("fog", "night", "rain", "snow")):
        name = f"{condition}/val/GOPR1/GOPR1_frame_000001"
        street(
            seed,
            Path(f"data/acdc/rgb_anon/{name}_rgb_anon.png"),
            Path(f"data/acdc/gt/{name}_gt_labelTrainIds.png"),
        )
    folder = dillema(
        f"dataset={dataset}", "reference=acdc", "generator.steps=2", "validity.segmenter.min_agreement=1.0"
    )
    run = check_page(folder, "segmenter", "questions", "image")
    assert {"segmenter.agreement", "segmenter.worst_class"} <= scores(folder)
    row = json.loads((folder / "generated" / "metadata.jsonl").read_text().splitlines()[0])
    assert not row["valid"] and any("agreement with the mask is" in reason for reason in row["reasons"])
    assert run.results["counts"]["valid"] == 0
    page = (folder / "report.html").read_text()
    assert "The gates rejected all of them" in page
    # what the model under test loses on real images is shown, although no generated image counts
    assert "They are of another data set" in re.sub(r"\s+", " ", page)
    for condition in ("foggy", "rainy", "snowy", "night"):
        assert re.search(
            rf'<tr><th scope="row">{condition}<small>no image that counts;\s+1 real image</small></th>\s+'
            r'<td class="number">-</td>\s+<td class="number">\u2212?\d+\.\d</td>',
            page,
        )


def street(seed, image, mask):
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    tiny.image(seed, (128, 64)).save(image)
    rows = np.repeat(np.array([0, 8, 10, 255], np.uint8), 16)
    Image.fromarray(np.tile(rows[:, None], (1, 128))).save(mask)
