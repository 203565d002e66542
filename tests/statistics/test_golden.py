"""Figures of predictions without groups and placebos: they must not change, not even in their last digits."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from dillema.predictions import row, write
from dillema.statistics import means, summarise
from dillema.types import Verdict
from tests.statistics.golden_cases import cases

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
COLOURS = ((0, 0, 255), (99, 99, 99), (255, 0, 0))


def assert_has(figures, golden, path=""):
    """Asserts that figures contain all golden figures; additional figures are allowed."""
    if isinstance(golden, dict):
        for name, value in golden.items():
            assert_has(figures[name], value, f"{path}.{name}")
    elif isinstance(golden, list):
        assert len(figures) == len(golden), path
        for i, (value, expected) in enumerate(zip(figures, golden, strict=True)):
            assert_has(value, expected, f"{path}[{i}]")
    else:
        assert figures == (pytest.approx(golden, abs=1e-9) if isinstance(golden, float) else golden), path


CASES = [("classification", 60), ("segmentation", 30), ("classification", 1200)]


@pytest.mark.parametrize(("task", "sources"), CASES)
def test_figures_are_those_of_the_first_version(tmp_path, task, sources):
    labels = SimpleNamespace(
        name="golden", task=task, classes=("sky", "road", "car"), colours=COLOURS, ignored=frozenset()
    )
    rows = (
        row(
            c.model, c.image, c.source, c.kind, c.record,
            edits=c.edits, verdict=Verdict(reasons=() if c.valid else ("too far off",)), digest=c.digest,
        )
        for c in cases(task, sources)
    )  # fmt: skip
    write(tmp_path / "p.parquet", rows, labels, ())
    assert_has(summarise(tmp_path / "p.parquet", labels, ["m", "n"], 7), GOLDEN[f"{task} {sources}"])


def test_means_are_those_of_the_first_version():
    assert means([(f"s{i % 40:02}", float(i % 7)) for i in range(400)], 3) == GOLDEN["means"]
