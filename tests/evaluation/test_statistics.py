import numpy as np
import pytest

from dillema.evaluation.statistics import Outcome, drop, mcnemar, mean_iou, metrics, per_attribute, pixel_accuracy, summary
from dillema.types import Edit
from tests.backends import Noise

FOG, NIGHT = Edit("weather", "clear", "foggy"), Edit("time of day", "day", "night")


def answer(predicted, label=0):
    return {"label": label, "predicted": predicted, "confidence": float(predicted == label), "top5": [predicted]}


def pair(source, before, after, edits=(FOG,), label=0):
    return Outcome(source, edits, answer(before, label), answer(after, label))


def pixels(*cells):
    return {"confusion": [list(cell) for cell in cells], "confidence": 0.5}


CLASSIFICATION, SEGMENTATION = Noise(task="classification"), Noise()


def test_mean_iou_by_hand_leaves_out_classes_that_the_truth_lacks():
    # sky: 6 right, 2 taken for road; road: 3 right, 1 taken for car, which is nowhere in the truth
    matrix = np.array([[6, 2, 0], [0, 3, 1], [0, 0, 0]])
    assert mean_iou(matrix) == pytest.approx((6 / 8 + 3 / 6) / 2)
    assert pixel_accuracy(matrix) == pytest.approx(9 / 12)
    assert np.isnan(mean_iou(np.zeros((3, 3)))) and np.isnan(pixel_accuracy(np.zeros((3, 3))))
    assert mean_iou(np.stack([matrix, matrix.T])).shape == (2,)


def test_mean_iou_agrees_with_torchmetrics():
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    random = torch.Generator().manual_seed(0)
    truth, predicted = torch.randint(0, 3, (500,), generator=random), torch.randint(0, 3, (500,), generator=random)
    matrix = torch.bincount(truth * 3 + predicted, minlength=9).reshape(3, 3).numpy()
    assert mean_iou(matrix) == pytest.approx(MulticlassJaccardIndex(3)(predicted, truth).item())


@pytest.mark.parametrize(("worse", "better"), [(0, 0), (1, 0), (5, 1), (12, 30), (300, 250)])
def test_mcnemar_agrees_with_the_binomial_test(worse, better):
    binomtest = pytest.importorskip("scipy.stats").binomtest
    assert mcnemar(worse, better) == pytest.approx(binomtest(worse, worse + better).pvalue if worse + better else 1.0)


def test_figures_of_a_classifier_by_hand():
    outcomes = [
        pair("a", 0, 1), pair("a", 0, 0, (NIGHT,)),  # one of two turns wrong
        pair("b", 0, 0), pair("b", 0, 0, (NIGHT,)),
        pair("c", 0, 2, (FOG, NIGHT)),
        pair("d", 1, 0), pair("d", 1, 1, (NIGHT,)),  # the first turns right
    ]  # fmt: skip
    figures = summary(outcomes, CLASSIFICATION, 0)
    assert (figures["metric"], figures["sources"], figures["images"]) == ("accuracy", 4, 7)
    assert figures["original"] == {"accuracy": pytest.approx(5 / 7)}
    assert figures["counterfactual"] == {"accuracy": pytest.approx(4 / 7)}
    assert figures["drop"] == pytest.approx(1 / 7)
    assert figures["flip_rate"] == pytest.approx(2 / 5)
    assert figures["any_flip_rate"] == pytest.approx(2 / 3)
    assert figures["mcnemar_p"] == 1.0  # of the first of each source two turn wrong, one right
    edits = {row["attribute"]: row for row in figures["per_attribute"]}
    assert (edits["weather"]["n"], edits["weather"]["from"], edits["weather"]["to"]) == (4, "clear", "foggy")
    assert edits["weather"]["drop"] == pytest.approx(3 / 4 - 2 / 4)
    assert edits["time of day"]["drop"] == pytest.approx(3 / 4 - 2 / 4)
    assert figures["per_class"] == {"sky": {"original": pytest.approx(5 / 7), "counterfactual": pytest.approx(4 / 7), "drop": pytest.approx(1 / 7)}}


def test_figures_of_a_segmenter_by_hand():
    good, bad = pixels((0, 0, 6), (1, 1, 4)), pixels((0, 0, 6), (1, 0, 4))
    figures = summary([Outcome("a", (FOG,), good, bad), Outcome("b", (NIGHT,), good, good)], SEGMENTATION, 0)
    assert figures["original"] == {"mean_iou": 1.0, "pixel_accuracy": 1.0}
    # both images in one matrix: sky 12 of 16, road 4 of 8
    assert figures["counterfactual"] == {"mean_iou": pytest.approx((12 / 16 + 4 / 8) / 2), "pixel_accuracy": pytest.approx(16 / 20)}
    assert figures["drop"] == pytest.approx(1 - 0.625)
    assert [row["attribute"] for row in figures["per_attribute"]] == ["weather", "time of day"]  # the most harmful first
    assert figures["per_attribute"][1]["drop"] == 0
    assert figures["per_class"]["road"] == {"original": 1.0, "counterfactual": 0.5, "drop": 0.5}
    assert "car" not in figures["per_class"]
    assert figures["flip_rate"] is figures["any_flip_rate"] is figures["mcnemar_p"] is None


def test_the_interval_is_that_of_sources_and_not_of_images():
    metric = metrics(CLASSIFICATION)["accuracy"]
    few = drop([pair(f"s{i}", 0, i % 2) for i in range(40)], metric, 0)
    copies = drop([pair(f"s{i}", 0, i % 2) for i in range(40) for _ in range(10)], metric, 0)
    assert few == copies  # ten copies of an image tell nothing new
    assert few["drop"] == 0.5
    # a share of one half in 40 independent draws: standard error 0.079
    assert few["low"] == pytest.approx(0.5 - 1.96 * 0.079, abs=0.03)
    assert few["high"] == pytest.approx(0.5 + 1.96 * 0.079, abs=0.03)


def test_the_interval_is_seeded():
    outcomes = [pair(f"s{i}", 0, i % 3) for i in range(17)]
    metric = metrics(CLASSIFICATION)["accuracy"]
    assert drop(outcomes, metric, 1) == drop(outcomes, metric, 1)


def test_where_there_is_nothing_to_say_nothing_is_said():
    assert summary([], SEGMENTATION, 0) == {"metric": "mean_iou", "sources": 0, "images": 0}
    alone = summary([pair("a", 1, 1)], CLASSIFICATION, 0)
    assert alone["drop"] == 0 and alone["low"] is alone["high"] is None
    assert alone["flip_rate"] is alone["any_flip_rate"] is None and alone["mcnemar_p"] == 1.0
    ignored = pixels()
    assert summary([Outcome(s, (FOG,), ignored, ignored) for s in "ab"], SEGMENTATION, 0)["drop"] is None
    assert per_attribute([], metrics(CLASSIFICATION)["accuracy"], 0) == []
