import numpy as np
import pytest

from dillema.statistics import LEVEL, confusion_matrix, summary
from dillema.statistics.intervals import UNITS, benjamini_hochberg, wilson_interval
from tests.labels import SEGMENTATION
from tests.statistics.outcomes import FOG, NIGHT, RED, REJECTED, answer, losses, pixels


def by_hand(table):
    right = answer(0, confidence=0.9)
    return table([
        ("a", [FOG], right, answer(1, confidence=0.2)), ("a", [NIGHT], right, answer(0, confidence=0.8)),
        ("b", [FOG], answer(0), answer(0)), ("b", [NIGHT], answer(0), answer(0)),
        ("c", [FOG, NIGHT], answer(0), answer(2)),
        ("d", [FOG], answer(0, 1), answer(1, 1)), ("d", [NIGHT], answer(0, 1), answer(0, 1)),
        ("e", [FOG], answer(0), answer(2), REJECTED),
    ])  # fmt: skip


def test_figures_of_a_classifier_by_hand(table):
    figures = summary(by_hand(table), 0, valid=True)
    assert (figures["metric"], figures["sources"], figures["images"]) == ("accuracy", 4, 7)
    # originals: sky 5 of 5, 2 roads taken for sky
    assert figures["original"] == {
        "accuracy": pytest.approx(5 / 7), "top5_accuracy": pytest.approx(5 / 7),
        "calibration_error": pytest.approx(0.9 - 5 / 7), "precision": pytest.approx((5 / 7 + 0) / 2),
        "recall": pytest.approx((1 + 0) / 2), "f1": pytest.approx((10 / 12 + 0) / 2),
    }  # fmt: skip
    # counterfactuals: sky 3 of 5, one each taken for road and car, road 1 of 2
    assert figures["counterfactual"] == {
        "accuracy": pytest.approx(4 / 7), "top5_accuracy": pytest.approx(4 / 7),
        "calibration_error": pytest.approx(0.9 - 4 / 7), "precision": pytest.approx((3 / 4 + 1 / 2 + 0) / 3),
        "recall": pytest.approx((3 / 5 + 1 / 2 + 0) / 3), "f1": pytest.approx((6 / 9 + 2 / 4 + 0) / 3),
    }  # fmt: skip
    assert figures["drop"] == pytest.approx(1 / 7) and figures["low"] <= 1 / 7 <= figures["high"]
    assert figures["confidence_drop"] == pytest.approx((0.7 + 0.1 + 1 - 1) / 7)
    assert figures["flip_rate"] == pytest.approx(2 / 5)
    assert 0 < figures["flip_rate_low"] < 0.4 < figures["flip_rate_high"] < 1
    assert figures["any_flip_rate"] == pytest.approx(2 / 3)
    bounds = [figures["any_flip_rate_low"], figures["any_flip_rate_high"]]
    assert bounds == pytest.approx(wilson_interval(2 / 3, 3))
    every = summary(by_hand(table), 0, valid=False)
    assert (every["sources"], every["images"]) == (5, 8) and every["drop"] == pytest.approx(2 / 8)


def test_tables_of_a_classifier_by_hand(table):
    figures = summary(by_hand(table), 0, valid=True)
    edits = {row["attribute"]: row for row in figures["per_attribute"]}
    weather, time = edits["weather"], edits["time of day"]
    assert (weather["n"], weather["sources"], weather["from"], weather["to"]) == (4, 4, "clear", "foggy")
    assert weather["drop"] == pytest.approx(3 / 4 - 2 / 4)
    assert weather["confidence_drop"] == pytest.approx((0.7 + 1 - 1) / 4)
    assert time["drop"] == pytest.approx(3 / 4 - 2 / 4)
    assert figures["per_pair"] == []  # fog at night has one source
    assert figures["per_class"]["sky"]["drop"] == pytest.approx(2 / 5)
    assert figures["per_class"]["road"]["drop"] == pytest.approx(-1 / 2)
    shared = {"true": "sky", "original": 0, "counterfactual": 1, "share": pytest.approx(1 / 5)}
    assert figures["confusions"] == [shared | {"predicted": "road"}, shared | {"predicted": "car"}]


def test_figures_of_a_segmenter_by_hand(table):
    good, bad = pixels((0, 0, 6), (1, 1, 4)), pixels((0, 0, 6), (1, 0, 4))
    predictions = table([("a", [FOG], good, bad), ("b", [NIGHT], good, good)], SEGMENTATION)
    figures = summary(predictions, 0, valid=True)
    assert figures["original"] == {"mean_iou": 1.0, "pixel_accuracy": 1.0, "image_iou": 1.0}
    # both images in one matrix: sky 12 of 16, road 4 of 8; in one each: sky 6 of 10, road 0 of 4, and all
    assert figures["counterfactual"] == {
        "mean_iou": pytest.approx((12 / 16 + 4 / 8) / 2),
        "pixel_accuracy": pytest.approx(16 / 20),
        "image_iou": pytest.approx((0.3 + 1) / 2),
    }
    assert figures["drop"] == pytest.approx(1 - 0.625)
    # the most harmful first
    assert [row["attribute"] for row in figures["per_attribute"]] == ["weather", "time of day"]
    assert figures["per_attribute"][1]["drop"] == 0
    road = figures["per_class"]["road"]
    assert (road["original"], road["counterfactual"], road["drop"]) == (1.0, 0.5, 0.5)
    assert (road["low"], road["high"]) == (0, 1)
    assert "car" not in figures["per_class"]
    rise = {"true": "road", "predicted": "sky", "original": 0, "counterfactual": 4, "share": 0.5}
    assert figures["confusions"] == [rise]
    assert figures["flip_rate"] is figures["any_flip_rate"] is figures["mcnemar_p"] is None


def test_pairs_of_values_and_the_correction_for_many(table):
    outcomes = [(f"s{i:02}", [FOG, NIGHT], answer(0), answer(1)) for i in range(20)]
    outcomes += [(f"s{i:02}", [RED, NIGHT], answer(0), answer(int(i % 10 == 0))) for i in range(20)]
    first, second = summary(table(outcomes), 0, valid=True)["per_pair"]
    assert (first["attributes"], first["to"]) == (["time of day", "weather"], ["night", "foggy"])
    assert (first["n"], first["drop"]) == (20, 1)
    assert (second["attributes"], second["to"]) == (["colour", "time of day"], ["red", "night"])
    assert second["drop"] == pytest.approx(0.1)
    assert first["p"] < 0.001 and second["p"] > 0.2
    assert [first["p_adjusted"], second["p_adjusted"]] == benjamini_hochberg([first["p"], second["p"]])


def test_a_difference_that_every_source_shows_is_less_sure_with_few_of_them(table):
    p = {n: summary(table(losses(n, n)), 0, valid=True)["p"] for n in (3, 30)}
    assert p[3] == pytest.approx(2 / 2**3, abs=0.05)
    assert p[30] < 0.001


def test_the_interval_is_that_of_sources_and_not_of_images(table):
    single, copies = (summary(table(losses(40, 20, images)), 0, valid=True) for images in (1, 10))
    for name in ("drop", "low", "high", "p", "flip_rate", "flip_rate_low", "flip_rate_high"):
        assert single[name] == pytest.approx(copies[name])  # ten copies of an image add no knowledge
    assert single["drop"] == 0.5
    # a share of one half in 40 independent draws: standard error 0.079
    assert single["low"] == pytest.approx(0.5 - 1.96 * 0.079, abs=0.03)
    assert single["high"] == pytest.approx(0.5 + 1.96 * 0.079, abs=0.03)


def test_an_interval_of_few_groups_is_called_rough(table):
    assert [summary(table(losses(n, 5)), 0, valid=True)["rough"] for n in (24, 49, 50)] == [True, True, False]
    uneven = [*losses(60, 5), *losses(1, 0, 100)]  # most images are of one source
    assert summary(table(uneven), 0, valid=True)["rough"]
    in_pairs = table(losses(60, 5), group=lambda source: source[:3] if source > "s029" else "")
    figures = summary(in_pairs, 0, valid=True)
    assert (figures["sources"], figures["groups"], figures["rough"]) == (60, 33, True)


def test_many_sources_are_drawn_in_sets_and_counted_one_by_one(table):
    n = 3 * UNITS // 2
    drawn_in_sets, drawn_alone = (summary(table(losses(k, k // 5, 2)), 0, valid=True) for k in (n, UNITS))
    assert (drawn_in_sets["sources"], drawn_in_sets["images"], drawn_in_sets["rough"]) == (n, 2 * n, False)
    assert drawn_in_sets["drop"] == pytest.approx(0.2) and drawn_in_sets["p"] < 0.001
    assert drawn_in_sets["any_flip_rate"] == pytest.approx(0.2)
    for figures, sources in ((drawn_in_sets, n), (drawn_alone, UNITS)):
        half = 1.96 * np.sqrt(0.2 * 0.8 / sources)
        expected = pytest.approx([0.2 - half, 0.2 + half], abs=0.15 * half)
        assert [figures["low"], figures["high"]] == expected


def test_figures_do_not_depend_on_the_order_of_images(table):
    outcomes = [(f"s{i:02}", [FOG] if i % 2 else [NIGHT], answer(0), answer(i % 3)) for i in range(17)]
    orders = (range(17), [*range(1, 17), 0])
    first, second = (summary(table([outcomes[i] for i in order]), 1, valid=True) for order in orders)
    assert first == second


def test_figures_that_cannot_be_computed_are_none(table):
    empty = {"metric": "mean_iou", "sources": 0, "groups": 0, "images": 0, "placebo": None}
    assert summary(table([], SEGMENTATION), 0, valid=True) == empty
    single = summary(table([("a", [FOG], answer(1), answer(1))]), 0, valid=True)
    assert single["drop"] == 0 and single["low"] is single["high"] is single["p"] is None and single["rough"]
    assert single["flip_rate"] is single["any_flip_rate"] is None and single["mcnemar_p"] == 1.0
    assert single["near_chance"] is None
    ignored = {"confusion": [], "confidence": None}
    nothing = summary(table([(s, [FOG], ignored, ignored) for s in "ab"], SEGMENTATION), 0, valid=True)
    assert nothing["drop"] is nothing["low"] is nothing["p"] is nothing["confidence_drop"] is None


def test_a_model_that_is_no_better_than_chance_is_named(table):
    def originals(predict):
        outcomes = [(f"s{i:02}", [FOG], answer(predict(i), i % 3), answer(0, i % 3)) for i in range(30)]
        return summary(table(outcomes), 0, valid=True)

    dead, alive = originals(lambda i: 0), originals(lambda i: i % 3 if i % 5 else 0)
    assert dead["chance"] == alive["chance"] == pytest.approx(1 / 3)
    assert dead["near_chance"] and not alive["near_chance"]
    assert dead["dead_classes"] == ["road", "car"] and alive["dead_classes"] == []
    good, bad = pixels((0, 0, 6), (1, 1, 4)), pixels((0, 0, 6), (1, 0, 4))
    figures = summary(table([(s, [FOG], bad, bad) for s in "abc"], SEGMENTATION), 0, valid=True)
    # always sky: IoU 0.6 and 0, which is what this model does
    assert figures["chance"] == pytest.approx(0.3) and figures["near_chance"]
    assert figures["dead_classes"] == ["road"]
    figures = summary(table([(s, [FOG], good, bad) for s in "abc"], SEGMENTATION), 0, valid=True)
    assert not figures["near_chance"] and figures["dead_classes"] == []


def test_the_whole_confusion_matrix_counts_valid_images_once(table):
    predictions = by_hand(table)
    names, originals = confusion_matrix(predictions)
    assert names == ["sky", "road", "car"] and originals.tolist() == [[4, 0, 0], [1, 0, 0], [0, 0, 0]]
    _, counterfactuals = confusion_matrix(predictions, "counterfactual")
    assert counterfactuals.tolist() == [[3, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert LEVEL == 0.95
