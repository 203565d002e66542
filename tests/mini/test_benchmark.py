import json
import sys
from pathlib import Path

import pytest

from dillema.mini.benchmark import __main__ as benchmark
from dillema.mini.benchmark import placebo


def test_the_placebo_part_writes_what_the_generator_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(placebo, "SCENES", 3)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--only", "placebo", "--out", str(tmp_path)])
    benchmark.main()
    (row,) = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    iou = row["figures"]["mean_iou"]
    assert iou["original"] > iou["placebo"] > 0.4
    assert row["figures"]["gap"] == pytest.approx(iou["original"] - iou["placebo"])
    assert row["figures"]["classes"]["original"]["road"] > 0.95
    assert row["measured"] in capsys.readouterr().out
    assert f"| {row['measured']} |" in (tmp_path / "benchmark.md").read_text()
