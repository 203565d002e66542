import os
import resource
import subprocess
import sys
from itertools import combinations, count
from math import comb

import numpy as np
import pytest

from dillema.evaluation import statistics
from dillema.evaluation.predictions import COUNTERFACTUAL, ORIGINAL, TRUTH, read, row, write
from dillema.evaluation.statistics import (
    benjamini_hochberg,
    calibration_error,
    compare,
    comparisons,
    interval,
    macro,
    mcnemar,
    mean_iou,
    pixel_accuracy,
    randomisation,
    rate,
    summary,
    truth,
    wilson,
)
from dillema.types import Edit
from tests.backends import Noise

FOG, NIGHT, RED = Edit("weather", "clear", "foggy"), Edit("time of day", "day", "night"), Edit("colour", "blue", "red")
CLASSIFICATION, SEGMENTATION = Noise(task="classification"), Noise()


def answer(predicted, label=0, confidence=None):
    sure = float(predicted == label) if confidence is None else confidence
    return {"label": label, "predicted": predicted, "certainty": 0.9, "confidence": sure, "top5": [predicted]}


def pixels(*cells):
    return {"confusion": [list(cell) for cell in cells], "confidence": 0.5}


@pytest.fixture
def table(tmp_path):
    numbers = count()

    def table(outcomes, dataset=CLASSIFICATION, renders=None):
        """Returns predictions: outcomes are (source, edits, original, counterfactual[, valid])."""
        path = tmp_path / f"{next(numbers)}.parquet"
        rows = [row("m", source, source, ORIGINAL, original) for source, _, original, *_ in outcomes]
        rows += [row("m", f"{o[0]}_{i}", o[0], COUNTERFACTUAL, o[3], o[1], *o[4:]) for i, o in enumerate(outcomes)]
        rows += [row("m", f"{o[0]}_{i}", o[0], TRUTH, said, o[1]) for i, (o, said) in enumerate(zip(outcomes, renders or [], strict=False))]
        write(path, rows)
        return read(path, "m", dataset)

    return table


def shares(n, dropped, images=1):
    """Returns outcomes of n sources, of which the first `dropped` turn wrong."""
    return [(f"s{i:03}", [FOG], answer(0), answer(int(i < dropped))) for i in range(n) for _ in range(images)]


def test_mean_iou_by_hand_leaves_out_classes_that_the_truth_lacks():
    # sky: 6 right, 2 taken for road; road: 3 right, 1 taken for car, which is nowhere in the truth
    matrix = np.array([[6, 2, 0], [0, 3, 1], [0, 0, 0]])
    assert mean_iou(matrix) == pytest.approx((6 / 8 + 3 / 6) / 2)
    assert pixel_accuracy(matrix) == pytest.approx(9 / 12)
    assert np.isnan(mean_iou(np.zeros((3, 3)))) and np.isnan(pixel_accuracy(np.zeros((3, 3))))
    assert mean_iou(np.stack([matrix, matrix.T])).shape == (2,)


def test_metrics_agree_with_torchmetrics():
    torch = pytest.importorskip("torch")
    from torchmetrics.functional import classification as other

    random = torch.Generator().manual_seed(0)
    logits, label = torch.randn(500, 4, generator=random), torch.randint(0, 3, (500,), generator=random)  # the fourth class is only predicted
    predicted = logits.argmax(1)
    matrix = torch.bincount(label * 4 + predicted, minlength=16).reshape(4, 4).numpy()
    seen = macro(matrix)
    for name in ("precision", "recall"):
        assert seen[name] == pytest.approx(getattr(other, f"multiclass_{name}")(predicted, label, 4, average="macro").item(), abs=1e-6)
    assert seen["f1"] == pytest.approx(other.multiclass_f1_score(predicted, label, 4, average="macro").item(), abs=1e-6)
    certainty = logits.double().softmax(1).max(1).values
    error = other.multiclass_calibration_error(logits.double().softmax(1), label, 4, n_bins=15).item()
    assert calibration_error(certainty.numpy(), (predicted == label).numpy()) == pytest.approx(error, abs=1e-6)
    three = torch.bincount(label * 3 + predicted.clamp(max=2), minlength=9).reshape(3, 3).numpy()
    assert mean_iou(three) == pytest.approx(other.multiclass_jaccard_index(predicted.clamp(max=2), label, 3).item(), abs=1e-6)


def test_statistics_agree_with_their_definitions_and_with_scipy():
    scipy = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for worse, better in [(1, 0), (5, 1), (12, 30), (300, 250)]:
        n = worse + better
        assert mcnemar(worse, better) == pytest.approx(min(1, 2 * sum(comb(n, k) for k in range(min(worse, better) + 1)) / 2**n))
    assert mcnemar(0, 0) == 1
    for hits, n in [(0, 10), (3, 17), (200, 200)]:
        known = scipy.binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits / n, n) == pytest.approx((known.low, known.high), abs=1e-9)
    assert benjamini_hochberg([0.04, None, 0.01]) == pytest.approx([0.04, None, 0.02])
    assert benjamini_hochberg([0.01, 0.02, 0.2, 0.03]) == pytest.approx([0.04, 0.04, 0.2, 0.04]) and benjamini_hochberg([None]) == [None]
    x, y = random.normal(0.3, 1, (2, 40, 1))
    known = scipy.permutation_test((x[:, 0], y[:, 0]), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=20_000, rng=0)
    assert randomisation(x, y, lambda sums: sums, 0)[0] == pytest.approx(known.pvalue, abs=0.03)


def test_intervals_over_seeds_are_students():
    stats = pytest.importorskip("scipy.stats")
    values = [0.61, 0.64, 0.58, 0.63]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert statistics.over_seeds(values) == {"mean": pytest.approx(0.615), "low": pytest.approx(low), "high": pytest.approx(high)}
    # by hand: the mean of 1 and 3 is 2, their standard error 1, and t 12.7062
    assert statistics.over_seeds([1, 3]) == {"mean": 2, "low": pytest.approx(-10.7062, abs=1e-4), "high": pytest.approx(14.7062, abs=1e-4)}
    assert statistics.over_seeds([0.5]) == {"mean": 0.5, "low": None, "high": None}
    assert statistics.over_seeds([float("nan")] * 3) == {"mean": None, "low": None, "high": None}


def test_figures_of_a_classifier_by_hand(table):
    predictions = table([
        ("a", [FOG], answer(0, confidence=0.9), answer(1, confidence=0.2)), ("a", [NIGHT], answer(0, confidence=0.9), answer(0, confidence=0.8)),
        ("b", [FOG], answer(0), answer(0)), ("b", [NIGHT], answer(0), answer(0)),
        ("c", [FOG, NIGHT], answer(0), answer(2)),
        ("d", [FOG], answer(0, 1), answer(1, 1)), ("d", [NIGHT], answer(0, 1), answer(0, 1)),
        ("e", [FOG], answer(0), answer(2), False),
    ])  # fmt: skip
    figures = summary(predictions, CLASSIFICATION, 0, valid=True)
    assert (figures["metric"], figures["sources"], figures["images"]) == ("accuracy", 4, 7)
    # originals: sky 5 of 5, 2 roads taken for sky; counterfactuals: sky 3 of 5, one each taken for road and car, road 1 of 2
    assert figures["original"] == {
        "accuracy": pytest.approx(5 / 7), "top5_accuracy": pytest.approx(5 / 7), "calibration_error": pytest.approx(0.9 - 5 / 7),
        "precision": pytest.approx((5 / 7 + 0) / 2), "recall": pytest.approx((1 + 0) / 2), "f1": pytest.approx((10 / 12 + 0) / 2),
    }  # fmt: skip
    assert figures["counterfactual"] == {
        "accuracy": pytest.approx(4 / 7), "top5_accuracy": pytest.approx(4 / 7), "calibration_error": pytest.approx(0.9 - 4 / 7),
        "precision": pytest.approx((3 / 4 + 1 / 2 + 0) / 3), "recall": pytest.approx((3 / 5 + 1 / 2 + 0) / 3),
        "f1": pytest.approx((6 / 9 + 2 / 4 + 0) / 3),
    }  # fmt: skip
    assert figures["drop"] == pytest.approx(1 / 7) and figures["low"] <= 1 / 7 <= figures["high"]
    assert figures["confidence_drop"] == pytest.approx((0.7 + 0.1 + 1 - 1) / 7)
    assert figures["flip_rate"] == pytest.approx(2 / 5) and 0 < figures["flip_rate_low"] < 0.4 < figures["flip_rate_high"] < 1
    assert figures["any_flip_rate"] == pytest.approx(2 / 3)
    assert [figures["any_flip_rate_low"], figures["any_flip_rate_high"]] == pytest.approx(wilson(2 / 3, 3))
    edits = {row["attribute"]: row for row in figures["per_attribute"]}
    assert (edits["weather"]["n"], edits["weather"]["sources"], edits["weather"]["from"], edits["weather"]["to"]) == (4, 4, "clear", "foggy")
    assert edits["weather"]["drop"] == pytest.approx(3 / 4 - 2 / 4)
    assert edits["weather"]["confidence_drop"] == pytest.approx((0.7 + 1 - 1) / 4)
    assert edits["time of day"]["drop"] == pytest.approx(3 / 4 - 2 / 4)
    assert figures["per_pair"] == []  # fog at night has one source
    assert figures["per_class"]["sky"]["drop"] == pytest.approx(2 / 5) and figures["per_class"]["road"]["drop"] == pytest.approx(-1 / 2)
    assert figures["confusions"] == [
        {"true": "sky", "predicted": "road", "original": 0, "counterfactual": 1, "share": pytest.approx(1 / 5)},
        {"true": "sky", "predicted": "car", "original": 0, "counterfactual": 1, "share": pytest.approx(1 / 5)},
    ]
    every = summary(predictions, CLASSIFICATION, 0, valid=False)
    assert (every["sources"], every["images"]) == (5, 8) and every["drop"] == pytest.approx(2 / 8)


def test_figures_of_a_segmenter_by_hand(table):
    good, bad = pixels((0, 0, 6), (1, 1, 4)), pixels((0, 0, 6), (1, 0, 4))
    figures = summary(table([("a", [FOG], good, bad), ("b", [NIGHT], good, good)], SEGMENTATION), SEGMENTATION, 0, valid=True)
    assert figures["original"] == {"mean_iou": 1.0, "pixel_accuracy": 1.0, "image_iou": 1.0}
    # both images in one matrix: sky 12 of 16, road 4 of 8; in one each: sky 6 of 10, road 0 of 4, and all
    assert figures["counterfactual"] == {
        "mean_iou": pytest.approx((12 / 16 + 4 / 8) / 2),
        "pixel_accuracy": pytest.approx(16 / 20),
        "image_iou": pytest.approx((0.3 + 1) / 2),
    }
    assert figures["drop"] == pytest.approx(1 - 0.625)
    assert [row["attribute"] for row in figures["per_attribute"]] == ["weather", "time of day"]  # the most harmful first
    assert figures["per_attribute"][1]["drop"] == 0
    road = figures["per_class"]["road"]
    assert (road["original"], road["counterfactual"], road["drop"]) == (1.0, 0.5, 0.5) and road["low"] == 0 and road["high"] == 1
    assert "car" not in figures["per_class"]
    assert figures["confusions"] == [{"true": "road", "predicted": "sky", "original": 0, "counterfactual": 4, "share": 0.5}]
    assert figures["flip_rate"] is figures["any_flip_rate"] is figures["mcnemar_p"] is None


def test_pairs_of_values_and_the_correction_for_many(table):
    outcomes = [(f"s{i:02}", [FOG, NIGHT], answer(0), answer(1)) for i in range(20)]
    outcomes += [(f"s{i:02}", [RED, NIGHT], answer(0), answer(int(i % 10 == 0))) for i in range(20)]
    figures = summary(table(outcomes), CLASSIFICATION, 0, valid=True)
    first, second = figures["per_pair"]
    assert (first["attributes"], first["to"], first["n"], first["drop"]) == (["time of day", "weather"], ["night", "foggy"], 20, 1)
    assert (second["attributes"], second["to"], second["drop"]) == (["colour", "time of day"], ["red", "night"], pytest.approx(0.1))
    assert first["p"] < 0.001 and second["p"] > 0.2
    assert [row["p_adjusted"] for row in figures["per_pair"]] == benjamini_hochberg([first["p"], second["p"]])


def test_a_difference_that_every_source_shows_is_less_sure_with_few_of_them(table):
    p = {n: summary(table(shares(n, n)), CLASSIFICATION, 0, valid=True)["p"] for n in (3, 30)}
    assert p[3] == pytest.approx(2 / 2**3, abs=0.05)
    assert p[30] < 0.001


def test_the_interval_is_that_of_sources_and_not_of_images(table):
    few, copies = (summary(table(shares(40, 20, images)), CLASSIFICATION, 0, valid=True) for images in (1, 10))
    for name in ("drop", "low", "high", "p", "flip_rate", "flip_rate_low", "flip_rate_high"):
        assert few[name] == pytest.approx(copies[name])  # ten copies of an image tell nothing new
    assert few["drop"] == 0.5
    # a share of one half in 40 independent draws: standard error 0.079
    assert few["low"] == pytest.approx(0.5 - 1.96 * 0.079, abs=0.03)
    assert few["high"] == pytest.approx(0.5 + 1.96 * 0.079, abs=0.03)


def test_an_interval_of_few_sources_is_called_rough(table):
    assert [summary(table(shares(n, 5)), CLASSIFICATION, 0, valid=True)["rough"] for n in (24, 49, 50)] == [True, True, False]
    uneven = [*shares(60, 5), *shares(1, 0, 100)]  # most images are of one source
    assert summary(table(uneven), CLASSIFICATION, 0, valid=True)["rough"]


def simulated(random, sources):
    """Returns, for each source, its images and those that were right before and after: the expected drop is 0.3."""
    images = random.integers(1, 11, sources)
    before = random.random(sources) < 0.9
    hurt = random.beta(0.5, 1, sources)  # one third of the right answers turn wrong, and those of a source together
    after = np.where(before, random.binomial(images, 1 - hurt), 0)
    return images, before * images, after


def covered(sources, draws, seed=0):
    """Returns how often an interval holds the expected drop, by sources and by images, and how often that of the flip rate holds 1 / 3."""
    random, held = np.random.default_rng(seed), np.zeros(3)
    for _ in range(draws):
        images, before, after = simulated(random, sources)
        low, high = interval([np.stack([before - after, images], 1)], lambda sums: sums[..., :1] / sums[..., 1:], int(random.integers(1 << 30)))
        lost = before.sum() - after.sum()
        # a bootstrap of images: in a sample of them, the losses are binomial
        least, most = np.quantile(random.binomial(images.sum(), lost / images.sum(), statistics.DRAWS) / images.sum(), [0.025, 0.975])
        sound = before > 0
        flips = rate("flip", (before - after)[sound], images[sound])
        held += [low[0] <= 0.3 <= high[0], least <= 0.3 <= most, flips["flip_low"] <= 1 / 3 <= flips["flip_high"]]
    return held / draws


@pytest.mark.parametrize(("draws", "least", "most"), [(200, 0.91, 0.98), pytest.param(1000, 0.93, 0.97, marks=pytest.mark.slow)])
def test_intervals_hold_what_they_say(draws, least, most):
    by_source, by_image, flips = covered(200, draws)
    assert least <= by_source <= most
    assert least <= flips <= most
    assert by_image < 0.8  # an interval that takes images for independent


@pytest.mark.slow
def test_intervals_of_random_groups_of_sources_hold_what_they_say():
    random, held = np.random.default_rng(0), []
    for seed in range(1000):
        images, before, after = simulated(random, 3000)
        lost = np.arange(images.sum()) < np.repeat(images.cumsum() - images + before - after, images)
        figures = statistics.means(zip(np.repeat(np.arange(3000), images).tolist(), lost.tolist(), strict=True), seed)
        held.append(figures["low"] <= 0.3 <= figures["high"])
    assert 0.93 <= np.mean(held) <= 0.97


def test_many_sources_are_drawn_in_groups_and_counted_one_by_one(table):
    n, units = 3 * statistics.UNITS // 2, statistics.UNITS
    every, some = (summary(table(shares(k, k // 5, 2)), CLASSIFICATION, 0, valid=True) for k in (n, units))
    assert (every["sources"], every["images"], every["rough"]) == (n, 2 * n, False)
    assert every["drop"] == pytest.approx(0.2) and every["p"] < 0.001 and every["any_flip_rate"] == pytest.approx(0.2)
    for figures, sources in ((every, n), (some, units)):
        half = 1.96 * np.sqrt(0.2 * 0.8 / sources)
        assert [figures["low"], figures["high"]] == pytest.approx([0.2 - half, 0.2 + half], abs=0.15 * half)
    sums = np.random.default_rng(0).random((n, 3))
    unit = statistics._units(n, 0)
    groups = statistics._added(sums, np.arange(n), unit)
    assert np.bincount(unit).tolist() == [2] * (n - units) + [1] * (2 * units - n)
    np.testing.assert_allclose(groups, [sums[unit == i].sum(0) for i in range(units)])
    assert (unit != np.arange(n) % units).any() and (unit == statistics._units(n, 0)).all()


def test_means_of_images_read_them_once():
    values = [(f"s{i % 40:02}", float(i % 7)) for i in range(400)]
    figures = statistics.means(iter(values), 0)
    assert (figures["images"], figures["mean"]) == (400, pytest.approx(np.mean([value for _, value in values])))
    assert figures["low"] < figures["mean"] < figures["high"]
    assert statistics.means(iter([]), 0) == {"images": 0, "mean": None, "low": None, "high": None}
    assert statistics.means(iter([("a", 1.0), ("a", 2.0)]), 0) == {"images": 2, "mean": 1.5, "low": None, "high": None}


def test_rates_of_nothing_and_of_everything_have_intervals():
    images = np.array([1, 5, 3, 2] * 5)
    none, every = rate("flip", np.zeros(20), images), rate("flip", images, images)
    assert none["flip"] == 0 == pytest.approx(none["flip_low"]) and 0.1 < none["flip_high"] < 0.2  # 20 sources, however many images
    assert every["flip_high"] == pytest.approx(1) and 0.8 < every["flip_low"] < 0.9
    assert rate("flip", np.zeros(0), np.zeros(0)) == {"flip": None, "flip_low": None, "flip_high": None}


def test_figures_do_not_depend_on_the_order_of_images(table):
    outcomes = [(f"s{i:02}", [FOG] if i % 2 else [NIGHT], answer(0), answer(i % 3)) for i in range(17)]
    one, other = (summary(table([outcomes[i] for i in order]), CLASSIFICATION, 1, valid=True) for order in (range(17), [*range(1, 17), 0]))
    assert one == other


def test_where_there_is_nothing_to_say_nothing_is_said(table):
    assert summary(table([], SEGMENTATION), SEGMENTATION, 0, valid=True) == {"metric": "mean_iou", "sources": 0, "images": 0}
    alone = summary(table([("a", [FOG], answer(1), answer(1))]), CLASSIFICATION, 0, valid=True)
    assert alone["drop"] == 0 and alone["low"] is alone["high"] is alone["p"] is None and alone["rough"]
    assert alone["flip_rate"] is alone["any_flip_rate"] is None and alone["mcnemar_p"] == 1.0
    ignored = {"confusion": [], "confidence": None}
    nothing = summary(table([(s, [FOG], ignored, ignored) for s in "ab"], SEGMENTATION), SEGMENTATION, 0, valid=True)
    assert nothing["drop"] is nothing["low"] is nothing["p"] is nothing["confidence_drop"] is None


def test_two_models_are_compared_on_the_same_images(table):
    weak = table([(f"s{i:02}", [FOG], answer(0), answer(1)) for i in range(30)])
    strong = table([(f"s{i:02}", [FOG], answer(int(i < 3)), answer(int(i < 6)), i != 29) for i in range(31)])
    figures = compare(weak, strong, CLASSIFICATION, 0)
    assert (figures["metric"], figures["paired"], figures["images"], figures["sources"]) == ("accuracy", "images", [29, 29], 29)
    assert figures["original"]["difference"] == pytest.approx(3 / 29)
    assert figures["counterfactual"] | {"low": 0, "high": 0, "p": 0} == {"a": 0, "b": pytest.approx(23 / 29), "difference": pytest.approx(-23 / 29)} | {
        "low": 0, "high": 0, "p": 0,
    }  # fmt: skip
    assert figures["drop"]["difference"] == pytest.approx(1 - 3 / 29) and figures["drop"]["low"] < 26 / 29 < figures["drop"]["high"]
    assert figures["drop"]["p"] < 0.001 and figures["original"]["p"] > 0.1
    same = compare(weak, weak, CLASSIFICATION, 0)
    assert same["drop"]["difference"] == same["drop"]["low"] == 0 and same["drop"]["p"] == 1
    assert compare(weak, table([]), CLASSIFICATION, 0) == {"metric": "accuracy", "paired": "sources", "images": [0, 0], "sources": 0}


def test_runs_with_other_images_are_compared_on_the_same_sources(tmp_path):
    def run(name, wrong, images, digest, sources=range(20)):
        rows = [row("m", f"s{s:02}", f"s{s:02}", ORIGINAL, answer(0), digest=f"{s} {digest if s == 19 else ''}") for s in sources]
        for s in sources:
            rows += [row("m", f"s{s:02}_{i}", f"s{s:02}", COUNTERFACTUAL, answer(int(s < wrong)), [FOG], digest=f"{s} {i} {digest}") for i in range(images)]
        write(tmp_path / name, rows)
        return read(tmp_path / name, "m", CLASSIFICATION)

    one, same, other = run("one", 10, 1, "x"), run("same", 5, 1, "x"), run("other", 5, 3, "y")
    assert compare(one, same, CLASSIFICATION, 0)["paired"] == "images"
    figures = compare(one, other, CLASSIFICATION, 0)
    assert (figures["paired"], figures["images"], figures["sources"]) == ("sources", [19, 57], 19)  # the last source is another image there
    assert figures["drop"]["difference"] == pytest.approx(5 / 19) and figures["drop"]["low"] < 5 / 19 < figures["drop"]["high"]
    assert figures["original"]["difference"] == 0
    assert compare(one, run("else", 0, 1, "y", range(30, 40)), CLASSIFICATION, 0)["sources"] == 0


def test_several_comparisons_are_corrected_for_their_number(table):
    models = [table([(f"s{i:02}", [FOG], answer(0), answer(int(i < n))) for i in range(30)]) for n in (25, 15, 14)]
    rows = comparisons(compare(a, b, CLASSIFICATION, 0) for a, b in combinations(models, 2))
    p = [row["drop"]["p"] for row in rows]
    assert [row["drop"]["p_adjusted"] for row in rows] == benjamini_hochberg(p)
    assert p[0] < 0.01 and p[2] > 0.5
    assert comparisons([{"a": "x", "reason": "other data"}]) == [{"a": "x", "reason": "other data"}]


def test_the_truth_stands_beside_the_estimate(table):
    outcomes = [(f"s{i:02}", [edit], answer(0), answer(int(i < n))) for edit, n in ((FOG, 6), (NIGHT, 3), (RED, 0)) for i in range(10)]
    renders = [answer(int(i < n)) for n in (5, 4, 0) for i in range(10)]
    figures = truth(table(outcomes, renders=renders), CLASSIFICATION, 0)
    assert (figures["estimated"], figures["true"], figures["n"], figures["sources"]) == (pytest.approx(0.3), pytest.approx(0.3), 30, 10)
    assert figures["error"] == pytest.approx(0) and figures["low"] < 0 < figures["high"]
    assert figures["mean_absolute_error"] == pytest.approx(0.2 / 3) and figures["rank_correlation"] == pytest.approx(1)
    fog = next(row for row in figures["per_attribute"] if row["to"] == "foggy")
    assert (fog["attribute"], fog["from"], fog["n"]) == ("weather", "clear", 10)
    assert (fog["estimated"], fog["true"], fog["error"]) == (pytest.approx(0.6), pytest.approx(0.5), pytest.approx(0.1))
    assert truth(table(outcomes), CLASSIFICATION, 0) is None


ALONE = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that wait for each other on a busy machine count as work

LARGE = """
import json, sys, time
from pathlib import Path
import numpy as np
from dillema.evaluation.predictions import read, row, write
from dillema.evaluation.statistics import summary
from dillema.pairs import Pairs
from dillema.pipeline import Run
from dillema.report import write as render
from dillema.store import Store
from dillema.types import Edit, Sample
from tests import tiny
from tests.backends import Noise

task, path, n = sys.argv[1], Path(sys.argv[2]), 20_000
classes = tuple(map(str, range({"segmentation": 23, "classification": 1000}[task])))
dataset = Noise(task=task, classes=classes)
random = np.random.default_rng(0)

def said(source, wrong):
    if task == "classification":
        predicted = source % 1000 if random.random() > wrong else int(random.integers(1000))
        return {"label": source % 1000, "predicted": predicted, "certainty": 0.7, "confidence": 0.5, "top5": [predicted, 1, 2, 3, 4]}
    true, guess, count = random.integers(0, 23, 40), random.integers(0, 23, 40), random.integers(1, 1000, 40)
    cells = {(t, t if u > wrong else g): c for t, g, c, u in zip(true.tolist(), guess.tolist(), count.tolist(), random.random(40))}
    return {"confusion": [[*cell, pixels] for cell, pixels in cells.items()], "confidence": 0.5}

def rows():
    for s in range(n):
        yield row("m", f"s{s}", f"s{s}", "original", said(s, 0.1))
        for v in range(4):
            changes = ("weather", "clear", f"w{random.integers(4)}"), ("time of day", "day", f"t{random.integers(3)}"), ("colour", "blue", f"c{s % 6}")
            edits = [Edit(*change) for change in changes[: 1 + v % 3]]
            yield row("m", f"s{s}_{v}", f"s{s}", "counterfactual", said(s, 0.3), edits, random.random() < 0.8)

start = time.process_time()
write(path, rows())
written = time.process_time()
predictions = read(path, "m", dataset)
for valid in (True, False):
    figures = summary(predictions, dataset, 0, valid=valid)
assert figures["images"] == 80_000 and len(figures["per_attribute"]) == 13 and figures["low"] < figures["drop"] < figures["high"]
counted = time.process_time()

# the page: of as many pairs, with a few images among them
store, keys = Store(path.parent / "store"), [f"{i:064x}" for i in range(40)]
for i, key in enumerate(keys):
    store.image(key).parent.mkdir(parents=True, exist_ok=True)
    tiny.image(i, (256, 160)).resize((32, 20)).resize((256, 160)).save(store.image(key))
samples = {f"s{s}": Sample(f"s{s}", store.image(keys[s % 40]).read_bytes, None, s % 1000 if task == "classification" else None) for s in range(n)}
(path.parent / "generated").mkdir()
with (path.parent / "generated" / "metadata.jsonl").open("w") as lines:
    for s in range(n):
        for v in range(4):
            line = {"file_name": f"images/s{s}_{v}.png", "source": f"s{s}", "caption": "a clear street", "counterfactual": "a foggy street", "seed": 0}
            line |= {"edits": [{"attribute": "weather", "original": "clear", "replacement": "foggy"}], "scores": {}, "valid": True, "quality": {"ssim": 0.5}}
            print(json.dumps(line | {"image_record": keys[(s + v) % 40]}), file=lines)
results = {"dataset": "d", "task": task, "seed": 0, "counts": {"generated": 80_000, "valid": 80_000}, "seconds": {}}
results["models"] = {"m": figures | {"all": figures}}
made = time.process_time()
render(Run(results, Pairs(path.parent / "generated", samples, store), [], {"m": predictions}), dataset, path.parent)
print(written - start, counted - written, time.process_time() - made)
"""


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_hundred_thousand_predictions_take_seconds(tmp_path, task):
    done = subprocess.run([sys.executable, "-c", LARGE, task, str(tmp_path / "p.parquet")], capture_output=True, text=True, check=True, env=ALONE)
    written, counted, rendered = map(float, done.stdout.split())
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{task}: {written:.1f} s to write, {counted:.1f} s of statistics, {rendered:.1f} s of rendering, {memory:.2f} GB")
    assert counted + rendered < 30 and memory < 1


MILLION = """
import resource, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dillema.evaluation.predictions import read, row, write
from dillema.evaluation.statistics import compare, summary
from dillema.types import Edit
from tests.backends import Noise

task, path = sys.argv[1], Path(sys.argv[2])
classes = tuple(map(str, range({"segmentation": 23, "classification": 1000}[task])))
dataset, random = Noise(task=task, classes=classes), np.random.default_rng(0)

def said(wrong):
    if task == "classification":
        label = int(random.integers(1000))
        predicted = label if random.random() > wrong else int(random.integers(1000))
        return {"label": label, "predicted": predicted, "certainty": 0.7, "confidence": random.random(), "top5": [predicted, 1, 2, 3, 4]}
    true, guess = random.integers(0, 23, (2, 30))
    cells = {(int(t), int(t if u > wrong else g)) for t, g, u in zip(true, guess, random.random(30))}
    return {"confusion": [[*cell, 100] for cell in cells], "confidence": random.random()}

def rows():
    for s in range(2000):
        yield row("m", "", "", "original", said(0.1))
        for v in range(4):
            yield row("m", "", "", "counterfactual", said(0.3), [Edit("weather", "clear", f"w{random.integers(9)}")], random.random() < 0.8)

write(path, rows())
block = pq.read_table(path)
with pq.ParquetWriter(path, block.schema, compression="zstd") as writer:  # the same answers a hundred times, of other images
    for b in range(100):
        names = {"source": [f"{b} {i // 5}" for i in range(10_000)], "image": [f"{b} {i}" for i in range(10_000)]}
        names["digest"] = [f"{b:032x}{i:032x}" for i in range(10_000)]
        for name, texts in names.items():
            block = block.set_column(block.schema.get_field_index(name), name, pa.array(texts))
        writer.write_table(block)
start = time.process_time()
predictions = read(path, "m", dataset)
for valid in (True, False):
    figures = summary(predictions, dataset, 0, valid=valid)
assert (figures["sources"], figures["images"], len(figures["per_attribute"])) == (200_000, 800_000, 9)
other = replace(predictions, digest=np.where(predictions.kind == "original", predictions.digest, "another"))
for others, paired in ((predictions, "images"), (other, "sources")):
    assert compare(predictions, others, dataset, 0)["paired"] == paired
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_million_predictions_take_less_than_a_minute(tmp_path, task):
    done = subprocess.run([sys.executable, "-c", MILLION, task, str(tmp_path / "p.parquet")], capture_output=True, text=True, check=True, env=ALONE)
    seconds, memory = map(float, done.stdout.split())
    print(f"{task}: {seconds:.1f} s of statistics, {memory:.2f} GB")
    assert seconds < 60 and memory < 1.2


def test_draws_are_bounded_in_memory():
    assert sum(statistics._blocks(1_000_000)) == sum(statistics._blocks(3)) == statistics.DRAWS
    assert max(statistics._blocks(1_000_000)) * 1_000_000 <= statistics.AT_ONCE
