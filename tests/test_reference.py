"""A run with a reference: real images beside generated ones."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from dillema import report
from dillema.job.summary import show
from dillema.predictions import COUNTERFACTUAL, ORIGINAL, REFERENCE
from dillema.report import words
from dillema.types import Edit
from tests.backends import Model, Noise, run_pipeline

NORMAL = {"weather": "clear", "time of day": "day"}


@dataclass
class RealNoise:
    """Nine images in three conditions; the normal one is left out unless `has_normal`."""

    has_normal: bool = True
    task: str = "segmentation"
    normal: dict = field(default_factory=lambda: dict(NORMAL))
    name: str = "real"

    def samples(self, dataset):
        values = [NORMAL, NORMAL | {"weather": "foggy"}, NORMAL | {"time of day": "night"}]
        values.append({"weather": "hail", "time of day": "day"})
        samples = Noise(12, self.task).samples()
        return [
            replace(sample, id=f"reference-{i}", attributes=values[i % 4])
            for i, sample in enumerate(samples)
            if i % 4 or self.has_normal
        ]


def run(tmp_path, name="run", **settings):
    block = {"_target_": f"{__name__}.RealNoise", **settings}
    task = settings.get("task", "segmentation")
    return run_pipeline(
        tmp_path / name,
        tmp_path / "store",
        dataset=Noise(20, task),
        models=[Model(task=task)],
        gates=[],
        counterfactuals=4,
        reference=block,
    )


def drop(predictions, before, after):
    scores = [predictions.task.score(predictions.tallies[rows].sum(0)) for rows in (before, after)]
    return float(scores[0] - scores[1])


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("has_normal", [True, False])
def test_each_condition_has_its_estimated_and_its_real_drop(tmp_path, task, has_normal):
    folder, _ = run(tmp_path, has_normal=has_normal, task=task)
    predictions = folder.predictions("brightest")
    figures = folder.results["models"]["brightest"]["reference"]
    before, after = predictions.pairs()
    combinations = [predictions.combinations[i] for i in predictions.combination]

    def is_foggy_day(row):
        return {(e.attribute, e.replacement) for e in combinations[row]} == {("weather", "foggy")}

    chosen = np.array([is_foggy_day(row) for row in after])
    real = np.flatnonzero(predictions.kind == REFERENCE)
    foggy = [row for row in real if combinations[row] == (Edit("weather", "clear", "foggy"),)]
    normal = [row for row in real if not combinations[row]]
    baseline = normal if has_normal else np.flatnonzero(predictions.kind == ORIGINAL)
    row = next(row for row in figures["conditions"] if row["condition"] == {"weather": "foggy"})
    assert row["n"] == chosen.sum() > 2 and row["real_images"] == len(foggy) == 3
    assert row["estimated"] == pytest.approx(drop(predictions, before[chosen], after[chosen]))
    assert row["real"] == pytest.approx(drop(predictions, baseline, foggy))
    assert row["estimated_low"] <= row["estimated"] <= row["estimated_high"]
    assert row["real_low"] <= row["real"] <= row["real_high"]
    assert figures["baseline"] == ("reference" if has_normal else "originals")
    assert figures["baseline_images"] == len(baseline)
    assert figures["uncovered"] == [{"weather": "hail"}]
    assert {"weather": "snowy"} in figures["unconfirmed"] and figures["compared"] == 2
    # the other figures are those of a run without a reference
    without, _ = run_pipeline(
        tmp_path / "without",
        tmp_path / "store",
        dataset=Noise(20, task),
        models=[Model(task=task)],
        gates=[],
        counterfactuals=4,
    )
    ours, theirs = (f.results["models"]["brightest"] for f in (folder, without))
    assert {k: v for k, v in ours.items() if k != "reference"} == theirs


def test_predictions_of_the_reference_are_kept_like_all_others(tmp_path):
    first, _ = run(tmp_path)
    diary = tmp_path / "diary"
    block = {"_target_": f"{__name__}.RealNoise"}
    second, _ = run_pipeline(
        tmp_path / "second",
        tmp_path / "store",
        dataset=Noise(20),
        models=[Model(diary=str(diary))],
        gates=[],
        counterfactuals=4,
        reference=block,
    )
    assert not diary.exists()
    assert first.results["models"] == second.results["models"]
    assert json.dumps(second.results["reference"]) == json.dumps(
        {"name": "real", "normal": NORMAL, "images": 12}
    )


def test_the_page_and_the_terminal_say_what_reality_says_and_what_no_image_covers(tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    folder, _ = run(tmp_path, has_normal=False)
    report.write(folder)
    page = (folder.path / "report.html").read_text()
    assert "No image that counts covers these real conditions: hail." in page
    assert "real drops are measured from the 20 originals of this run" in " ".join(page.split())
    assert "3 real images" in page and "no image that counts" in page
    show(folder)
    assert "Against real images of 2 conditions (real), the mean absolute error is" in caplog.text
    assert "for a rank correlation there are too few conditions" in caplog.text
    assert (folder.predictions("brightest").kind == COUNTERFACTUAL).sum() == 80


def test_the_rank_correlation_has_an_interval_and_its_sign(tmp_path):
    figures = {
        "reference": {
            "name": "acdc",
            "compared": 4,
            "mean_absolute_error": 0.052,
            "rank_correlation": -0.8,
            "rank_low": -1.0,
            "rank_high": 0.4,
            "uncovered": [{"weather": "rainy", "time of day": "night"}],
        }
    }
    assert words.describe_reference(figures) == [
        "Against real images of 4 conditions (acdc), the mean absolute error is 5.2 points, and the rank "
        "correlation of estimated and real drops is \N{MINUS SIGN}0.80 (\N{MINUS SIGN}1.00 to 0.40).",
        "No image that counts covers these real conditions: rainy night.",
    ]
    assert words.describe_reference({}) == []
