"""Thresholds that are learnt from raters, and job=judge with them."""

import json
import logging

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import dillema
from dillema.config import compose, without_hydra
from dillema.context import JobContext
from dillema.errors import UserError
from dillema.job.calibrate import calibrate
from dillema.review.answers import AnswerStore, write_csv
from dillema.review.items import Review
from tests.report.chromium import BROWSER, FAINT, chromium
from tests.review.simulation import chance, make_run, simulate_answers

RATERS = {"anna": 0.05, "ben": 0.1, "carl": 0.08}


@pytest.fixture(scope="module")
def judged_run(tmp_path_factory):
    """Returns a run of 300 images, with the answers of three raters to 200 of them, and its review."""
    folder = make_run(tmp_path_factory.mktemp("calibrate"))
    review = Review.open(folder, 240, 0.17, 0)
    AnswerStore.of(review).put(simulate_answers(review, RATERS))
    return folder, review


def run_calibrate(folder, tmp_path, labels=None, precision=0.95):
    cfg = without_hydra(compose([f"run={folder.path}"]))
    (tmp_path / "out").mkdir(exist_ok=True)
    return calibrate(JobContext(cfg, tmp_path / "out"), labels, precision), tmp_path / "out"


def rate(folder, choose):
    """Returns the true precision and recall of a choice of images about the label."""
    scores = [image.verdict.scores for image in folder.generated()]
    good = np.array([chance(row["drawn.agreement"]) for row in scores])
    chosen = np.array([choose(row) for row in scores])
    return good[chosen].mean(), good[chosen].sum() / good.sum()


def test_thresholds_have_the_wanted_precision_and_job_judge_applies_them(judged_run, tmp_path, monkeypatch):
    folder, _ = judged_run
    results, out = run_calibrate(folder, tmp_path)
    agreement, edited = results["scores"]
    assert agreement["setting"] == "validity.drawn.min_agreement" and agreement["about"] == "label"
    assert edited["about"] == "edit" and results["raters"] == ["anna", "ben", "carl"]
    for row in (agreement, edited):
        assert row["low"] <= row["threshold"] <= row["high"] and row["fits"]
    precision, recall = rate(folder, lambda row: row["drawn.agreement"] >= agreement["threshold"])
    assert precision == pytest.approx(0.95, abs=0.03)
    for name, true in (("precision", precision), ("recall", recall)):
        assert agreement[name]["low"] <= true <= agreement[name]["high"]
    together, combination = results["together"], results["combination"]
    assert together["run"]["precision"]["mean"] < 0.8 < together["calibrated"]["precision"]["mean"]
    assert combination["precision"]["mean"] == pytest.approx(0.95, abs=0.01)

    monkeypatch.chdir(tmp_path)
    search = f"hydra.searchpath=[file://{out}/conf]"
    passed = {"calibrated": together["calibrated"]["passed"], "calibrated_combination": combination["passed"]}
    for option, expected in passed.items():
        judged = dillema.run(["job=judge", f"run={folder.path}", search, f"validity={option}"])
        assert not GlobalHydra.instance().is_initialized()
        share = judged.results["counts"]["valid"] / len(list(judged.generated()))
        assert share == pytest.approx(expected, abs=1e-9)
    assert "combination" in judged.results["gates"]
    valid = [image.verdict for image in judged.generated() if not image.verdict.valid]
    assert all(
        verdict.reasons[0].startswith("combination: probability of a good image is") for verdict in valid
    )


def test_a_gate_with_several_scores_is_rated_as_a_whole(judged_run, tmp_path, capsys):
    folder, _ = judged_run
    results, out = run_calibrate(folder, tmp_path)
    (gate,) = results["gates"]
    scores = [image.verdict.scores for image in folder.generated()]
    good = np.array([chance(row["drawn.agreement"]) * chance(row["drawn.edited"]) for row in scores])
    passes = np.array([min(row.values()) >= 0.2 for row in scores])
    assert (gate["gate"], gate["about"], gate["images"]) == (
        "drawn",
        "both",
        results["combination"]["images"],
    )
    assert gate["passed"] == pytest.approx(passes.mean())
    for name, true in (("precision", good[passes].mean()), ("recall", good[passes].sum() / good.sum())):
        assert gate[name]["low"] <= true <= gate[name]["high"]
        assert gate[name]["mean"] == pytest.approx(true, abs=0.06)
    assert "drawn as it is both" in " ".join(capsys.readouterr().out.split())
    assert "its thresholds as they are" in (out / "calibration.html").read_text()


def test_a_csv_gives_the_same_thresholds_as_the_answers_of_the_run(judged_run, tmp_path):
    folder, review = judged_run
    write_csv(tmp_path / "answers.csv", review, AnswerStore.of(review).all())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    own, _ = run_calibrate(folder, tmp_path / "a")
    other, out = run_calibrate(folder, tmp_path / "b", str(tmp_path / "answers.csv"))
    assert own == other == json.loads((out / "calibration.json").read_text())


def test_answers_of_a_rater_who_fails_the_controls_are_left_out(judged_run, tmp_path, caplog):
    folder, review = judged_run
    answers = simulate_answers(review, RATERS) + simulate_answers(review, {"guess": 0.5}, seed=1)
    write_csv(tmp_path / "answers.csv", review, answers)
    with caplog.at_level(logging.WARNING):
        results, _ = run_calibrate(folder, tmp_path, str(tmp_path / "answers.csv"))
    assert results["raters"] == ["anna", "ben", "carl"]
    assert "guess fails the controls" in caplog.text


def test_a_precision_that_no_threshold_reaches_leaves_the_setting_as_it_is(judged_run, tmp_path):
    folder, _ = judged_run
    results, out = run_calibrate(folder, tmp_path, precision=1.0)
    assert [row["threshold"] for row in results["scores"]] == [None, None]
    option = OmegaConf.load(out / "conf" / "validity" / "calibrated.yaml")
    assert option.drawn.min_agreement == 0.2


def test_too_few_answers_and_a_run_without_a_review_are_refused(judged_run, tmp_path):
    folder, review = judged_run
    write_csv(tmp_path / "few.csv", review, AnswerStore.of(review).all()[:10])
    with pytest.raises(UserError, match="needs 30 or more"):
        run_calibrate(folder, tmp_path, str(tmp_path / "few.csv"))
    with pytest.raises(UserError, match="has no review: start one with job=review"):
        run_calibrate(make_run(tmp_path, sources=3), tmp_path)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")
def test_the_page_shows_a_row_and_a_curve_of_each_score(judged_run, tmp_path):
    folder, _ = judged_run
    _, out = run_calibrate(folder, tmp_path)
    with chromium() as tab:
        tab.open(out / "calibration.html")
        assert tab.ask("document.querySelectorAll('svg.curve').length") == 3
        assert (
            tab.ask("document.querySelectorAll('tbody tr').length") == 6
        )  # 2 scores, their gate, 3 together
        assert tab.complaints == [] and tab.ask(FAINT)["faint"] == []
