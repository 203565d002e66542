import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dillema.dataset.mini import VALUES, MiniShift, render_as
from dillema.mini.benchmark import __main__ as benchmark
from dillema.mini.benchmark import gates, harmful
from dillema.mini.benchmark.gates import CLEAR_DAYS, SPOILS, draw_curve, make_cases, rate_gates
from dillema.mini.render import PEDESTRIAN, VEHICLE

RARE_CLASSES = (VEHICLE, PEDESTRIAN)


@pytest.fixture(scope="module")
def cases() -> list[gates.Case]:
    return make_cases(MiniShift(split="val", limit=18, where=CLEAR_DAYS).samples())


def test_a_third_of_the_images_is_spoiled_each_way_equally_often(cases: list[gates.Case]) -> None:
    assert sorted(case.spoil for case in cases if case.spoil) == sorted(SPOILS)
    for case in cases:
        edits = case.counterfactual.edits
        assert 1 <= len(edits) <= 3 and len({edit.attribute for edit in edits}) == len(edits)
        for edit in edits:
            assert edit.replacement in VALUES[edit.attribute]
            assert edit.original == case.sample.attributes[edit.attribute] != edit.replacement
            assert edit.replacement in case.counterfactual.text
        if not case.spoil:
            assert case.painted is case.sample and case.text == case.counterfactual.text
    assert [case.counterfactual.text for case in cases] == [
        case.counterfactual.text for case in make_cases([case.sample for case in cases])
    ]


def test_each_spoil_is_what_its_name_says(cases: list[gates.Case]) -> None:
    by_spoil = {case.spoil: case for case in cases}
    image = by_spoil["noise"].sample.image
    assert by_spoil["wrong control"].painted.id != by_spoil["wrong control"].sample.id
    assert by_spoil["no edit"].text == by_spoil["no edit"].counterfactual.caption
    half = by_spoil["half the edit"]
    first, second = half.counterfactual.edits
    assert first.replacement in half.text and second.replacement not in half.text.split()
    noisy = by_spoil["noise"].finish(image)
    assert np.abs(np.asarray(noisy).astype(int) - np.asarray(image)).mean() > 30
    elsewhere = by_spoil["another scene"]
    shown = elsewhere.finish(image)
    own = {**elsewhere.sample.attributes}
    own |= {edit.attribute: edit.replacement for edit in elsewhere.counterfactual.edits}
    assert shown.size == image.size
    assert shown.tobytes() != render_as(elsewhere.sample.id, own).tobytes()
    removed = by_spoil["class removed"]
    before, after = ({*np.unique(s.mask)} & {*RARE_CLASSES} for s in (removed.sample, removed.painted))
    assert len(before - after) == 1 and after < before


def test_precision_and_recall_are_those_of_the_accepted_images() -> None:
    accepted, valid = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
    assert rate_gates(accepted, valid) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    curve = draw_curve(np.array([0.9, 0.8, 0.3, 0.7, np.nan]), valid)
    assert [point["recall"] for point in curve][:: len(curve) - 1] == [1.0, pytest.approx(1 / 3)]
    at = {round(point["threshold"], 2): point for point in curve}
    # above 0.3 the image of 0.3 is rejected; one without a score is not
    assert at[0.7]["precision"] == pytest.approx(3 / 4) and at[0.7]["recall"] == 1


@pytest.mark.slow
def test_the_gates_part_writes_a_table_and_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(benchmark.PARTS, "gates", lambda cfg: gates.measure_gates(cfg, 18))
    monkeypatch.setattr(sys, "argv", ["benchmark", "--only", "gates", "--out", str(tmp_path)])
    benchmark.main()
    together, *alone = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert [row["name"] for row in alone] == [f"gate {n} alone" for n in ("segmenter", "reader", "image")]
    assert together["figures"]["caught"].keys() == SPOILS.keys()
    assert together["figures"]["precision"] > 0.7 and together["figures"]["recall"] > 0.5
    assert {*alone[0]["figures"]["curves"]} == {"segmenter.agreement", "segmenter.worst_class"}
    assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
    assert "(gates.png)" in (tmp_path / "benchmark.md").read_text()


@pytest.mark.slow
def test_the_harmful_part_compares_what_a_run_says_with_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(harmful, "TRUE_SCENES", 6)
    part = benchmark.PARTS["harmful"]
    assert part is harmful.measure_harmful
    (row,) = harmful.measure_harmful(benchmark.compose([]), sources=6, seeds=1)
    cases = {(case["attribute"], case["to"]): case for case in row.figures["cases"]}
    assert cases["time of day", "night"]["true_drop"] > 0.3
    assert abs(cases["colour", "red"]["true_drop"]) < 0.05
    assert {case["harmful"] for case in cases.values()} <= {True, False, None}
