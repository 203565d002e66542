"""Retrained models are tested on the real images of a reference, too."""
# ruff: noqa: F811  # the fixtures of another module

import pytest

from tests.job.test_retrain import start, weights_folder  # noqa: F401
from tests.test_reference import RealNoise

REAL = "(reference)"


def test_the_reference_is_the_exam_of_every_arm(start):
    block = f"{{_target_: {RealNoise.__module__}.RealNoise}}"
    folder, results = start("one", f"+reference={block}", "job.seeds=[0]")
    figures = results["models"]["net"]["retraining"]
    assert figures["images"] == {"original": 2, "counterfactual": 4, "truth": 6, "reference": 12}
    for arm in ("untouched", "originals", "augmentation", "counterfactuals"):
        part = figures["arms"][arm]
        assert 0 <= part["reference"]["mean"] <= 1
        conditions = {name for name in part["per_condition"] if name.endswith(REAL)}
        assert conditions == {f"{c} {REAL}" for c in ("clear day", "foggy day", "clear night", "hail day")}
    gain = figures["arms"]["counterfactuals"]["over"]["originals"]["reference"]["mean"]
    levels = [figures["arms"][arm]["reference"]["mean"] for arm in ("counterfactuals", "originals")]
    assert gain == pytest.approx(levels[0] - levels[1])
    assert figures["over_sources"]["originals"]["reference"]["groups"] == 12
    page = (folder / "report.html").read_text()
    assert "on 12 real images of the reference" in page and "foggy day (reference)" in page
