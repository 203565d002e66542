from itertools import combinations

import numpy as np
import pytest

from dillema.predictions import COUNTERFACTUAL, ORIGINAL, read, row, write
from dillema.statistics import compare, compare_trainings, comparisons, sums_by_group
from dillema.statistics.intervals import benjamini_hochberg
from dillema.task import get_task
from tests.labels import CLASSIFICATION
from tests.statistics.outcomes import FOG, REJECTED, VALID, answer, losses


def test_two_models_are_compared_on_the_same_images(table):
    weak = table([(f"s{i:02}", [FOG], answer(0), answer(1)) for i in range(30)])
    strong = table([
        (f"s{i:02}", [FOG], answer(int(i < 3)), answer(int(i < 6)), VALID if i != 29 else REJECTED)
        for i in range(31)
    ])  # fmt: skip
    figures = compare(weak, strong, 0)
    assert (figures["metric"], figures["paired"], figures["images"]) == ("accuracy", "images", [29, 29])
    assert figures["sources"] == figures["groups"] == 29
    assert figures["original"]["difference"] == pytest.approx(3 / 29)
    counterfactual = figures["counterfactual"]
    assert (counterfactual["a"], counterfactual["b"]) == (0, pytest.approx(23 / 29))
    assert counterfactual["difference"] == pytest.approx(-23 / 29)
    drop = figures["drop"]
    assert drop["difference"] == pytest.approx(1 - 3 / 29) and drop["low"] < 26 / 29 < drop["high"]
    assert drop["p"] < 0.001 and figures["original"]["p"] > 0.1
    same = compare(weak, weak, 0)["drop"]
    assert same["difference"] == same["low"] == 0 and same["p"] == 1
    nothing = {"metric": "accuracy", "paired": "sources", "images": [0, 0], "sources": 0, "groups": 0}
    assert compare(weak, table([]), 0) == nothing


def test_runs_with_other_images_are_compared_on_the_same_sources(tmp_path):
    def run(name, wrong, images, digest, sources=range(20), group=""):
        rows = []
        for s in sources:
            source, shared = f"s{s:02}", {"group": group and f"{group} {s // 5}"}
            digest_of_source = f"{s} {digest if s == 19 else ''}"
            rows.append(row("m", source, source, ORIGINAL, answer(0), digest=digest_of_source, **shared))
            for i in range(images):
                record, content = answer(int(s < wrong)), f"{s} {i} {digest}"
                image = f"{source}_{i}"
                rows.append(
                    row("m", image, source, COUNTERFACTUAL, record, edits=[FOG], digest=content, **shared)
                )
        write(tmp_path / name, rows, CLASSIFICATION, ())
        return read(tmp_path / name, "m", CLASSIFICATION)

    first, same, other = run("first", 10, 1, "x"), run("same", 5, 1, "x"), run("other", 5, 3, "y")
    assert compare(first, same, 0)["paired"] == "images"
    figures = compare(first, other, 0)
    # the last source is another image there
    assert (figures["paired"], figures["images"], figures["sources"]) == ("sources", [19, 57], 19)
    drop = figures["drop"]
    assert drop["difference"] == pytest.approx(5 / 19) and drop["low"] < 5 / 19 < drop["high"]
    assert figures["original"]["difference"] == 0
    assert compare(first, run("else", 0, 1, "y", range(30, 40)), 0)["sources"] == 0
    # the groups are those of the first run, whatever the second calls them
    grouped = compare(run("grouped", 10, 1, "x", group="video"), other, 0)
    assert (grouped["sources"], grouped["groups"]) == (19, 4)
    wide, narrow = (row["drop"]["high"] - row["drop"]["low"] for row in (grouped, figures))
    assert wide > narrow


def test_several_comparisons_are_corrected_for_their_number(table):
    models = [
        table([(f"s{i:02}", [FOG], answer(0), answer(int(i < n))) for i in range(30)]) for n in (25, 15, 14)
    ]
    rows = comparisons(compare(a, b, 0) for a, b in combinations(models, 2))
    p = [row["drop"]["p"] for row in rows]
    assert [row["drop"]["p_adjusted"] for row in rows] == benjamini_hochberg(p)
    assert p[0] < 0.01 and p[2] > 0.5


def test_trainings_are_compared_over_groups(table):
    predictions = [table(losses(60, lost), group=lambda source: source[:3]) for lost in (12, 14, 24, 26)]
    rows = np.flatnonzero(predictions[0].kind == COUNTERFACTUAL)
    sums = [sums_by_group(part, rows) for part in predictions]
    assert sums[0].shape == (6, 3) and sums[0].sum(0).tolist() == [48, 48, 60]
    figures = compare_trainings(get_task("classification"), sums[:2], sums[2:], 0)
    assert figures["low"] < 12 / 60 < figures["high"] and (figures["groups"], figures["rough"]) == (6, True)
    single_group = compare_trainings(get_task("classification"), [sums[0][:1]], [sums[2][:1]], 0)
    assert single_group == {"low": None, "high": None, "rough": True, "groups": 1}
