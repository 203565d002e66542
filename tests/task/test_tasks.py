"""The tasks of the package: samples, records, words."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from dillema.dataset import check_sample
from dillema.errors import ItemError, UserError
from dillema.task import Answer, get_task
from tests import tiny
from tests.labels import CLASSIFICATION, SEGMENTATION

CLASSIFY, SEGMENT = get_task("classification"), get_task("segmentation")
MASK = np.zeros((32, 64), np.uint8)


def test_samples_without_a_label_that_fits_are_named():
    CLASSIFY.check(tiny.sample(label=2), CLASSIFICATION)
    SEGMENT.check(tiny.sample(mask=MASK), SEGMENTATION)
    for label in (None, 3, -1):
        with pytest.raises(ItemError, match=f"the label of s is {label}: tests has 0 to 2"):
            CLASSIFY.check(tiny.sample(label=label), CLASSIFICATION)
    with pytest.raises(ItemError, match="s has no mask"):
        SEGMENT.check(tiny.sample(), SEGMENTATION)
    with pytest.raises(ItemError, match="the mask of s is 4x8, its image 64x32"):
        check_sample(tiny.sample(mask=MASK[:8, :4]), SEGMENTATION)
    # a classifier's samples may have a mask, too: the structure of what is generated
    for labels in (SEGMENTATION, CLASSIFICATION):
        with pytest.raises(ItemError, match=r"holds unknown class ids \[7\]: tests has 0 to 2"):
            check_sample(tiny.sample(mask=MASK + 7, label=0), labels)


def test_truths_and_exported_labels(tmp_path):
    sample = tiny.sample(mask=np.arange(64, dtype=np.uint8)[None].repeat(32, 0) // 32, label=1)
    assert CLASSIFY.read_truth(sample, (8, 4))() == 1
    assert (
        CLASSIFY.label_name(sample, CLASSIFICATION) == "road"
        and SEGMENT.label_name(sample, SEGMENTATION) == ""
    )
    exported = CLASSIFY.export(sample, CLASSIFICATION, (8, 4), tmp_path, "x")
    assert exported == {"label": 1, "label_name": "road"} and not list(tmp_path.iterdir())
    truth = SEGMENT.read_truth(sample, (8, 4))()
    assert truth.tolist() == [[0] * 4 + [1] * 4] * 4
    exported = SEGMENT.export(sample, SEGMENTATION, (8, 4), tmp_path, "x")
    assert exported == {"mask_file_name": "masks/x.png"}
    assert (np.asarray(Image.open(tmp_path / "masks" / "x.png")) == truth).all()


def test_the_record_of_a_classifier():
    record = CLASSIFY.record(torch.tensor([0.0, 2.0]), 2, CLASSIFICATION)
    certainty = torch.tensor([0.0, 2.0]).softmax(0)[1].item()
    assert record == {
        "label": 2,
        "predicted": 1,
        "certainty": pytest.approx(certainty),
        "confidence": 0,  # the model does not know the class
        "top5": [1, 0, 2],
    }


def test_the_record_of_a_segmenter():
    logits = torch.zeros(3, 2, 2)
    logits[1, 0] = 4  # the upper row is road
    truth = np.array([[1, 0], [0, 2]])
    record = SEGMENT.record(logits, truth, SEGMENTATION)
    assert record["confusion"] == [[0, 0, 1], [0, 1, 1], [1, 1, 1], [2, 0, 1]]
    road = torch.tensor([0.0, 4, 0]).softmax(0)
    assert record["confidence"] == pytest.approx((road[1] + road[0] + 2 / 3).item() / 4)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(record["error_map"]))).convert("RGBA"))
    blank = [0, 0, 0, 0]
    assert picture.tolist() == [[blank, [99, 99, 99, 255]], [blank, [0, 0, 255, 255]]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_outputs_that_are_no_numbers_are_failures_of_their_item(value):
    with pytest.raises(ItemError, match="no finite numbers"):
        CLASSIFY.record(torch.tensor([0.0, value]), 0, CLASSIFICATION)
    with pytest.raises(ItemError, match="no finite numbers"):
        SEGMENT.record(torch.full((2, 2, 2), value), np.zeros((2, 2), int), SEGMENTATION)


def test_outputs_of_another_shape_are_refused():
    with pytest.raises(UserError, match=r"it has 4 classes, tests has 3; give model\.class_map"):
        CLASSIFY.record(torch.zeros(4), 0, CLASSIFICATION)
    with pytest.raises(ItemError, match="classification needs one number a class"):
        CLASSIFY.record(torch.zeros(3, 2, 2), 0, CLASSIFICATION)
    with pytest.raises(
        ItemError, match=r"the mask has \(4, 8\) rows and columns, the model's output \(2, 2\)"
    ):
        SEGMENT.record(torch.zeros(3, 2, 2), np.zeros((4, 8), int), SEGMENTATION)


def classified(predicted, label=0, confidence=0.75):
    return Answer(
        confidence, float(predicted == label), np.zeros(3), {"label": label, "predicted": predicted}
    )


def segmented(score):
    return Answer(0.9, score, np.array([1, 0, 0, 5, 0, 3, 6, 1, 1]), {})


def test_what_an_answer_says():
    assert CLASSIFY.describe(classified(0), CLASSIFICATION) == "sky, confidence 75.0 %"
    assert CLASSIFY.describe(classified(2), CLASSIFICATION) == "car (wrong), confidence in sky 75.0 %"
    assert SEGMENT.describe(segmented(0.5), SEGMENTATION) == "IoU 50.0 %, confidence in the true class 90.0 %"
    assert CLASSIFY.classes_in(classified(2)) == [0] and SEGMENT.classes_in(segmented(0.5)) == [0, 2]


def test_what_became_of_an_answer():
    pairs = {(0, 0): "kept", (0, 1): "flipped", (1, 0): "corrected", (1, 2): "wrong on both"}
    for (before, after), outcome in pairs.items():
        assert CLASSIFY.outcome(classified(before), classified(after)) == outcome
    assert set(pairs.values()) == set(CLASSIFY.outcomes)
    scores = {0.5: "kept", 0.52: "kept", 0.3: "worse", 0.7: "better", None: "worse"}
    for after, outcome in scores.items():
        assert SEGMENT.outcome(segmented(0.5), segmented(after)) == outcome
    assert set(scores.values()) == set(SEGMENT.outcomes)
