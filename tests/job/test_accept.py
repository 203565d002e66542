"""Which criteria hold for a finished run."""

import json

import pytest

from dillema.config import compose, without_hydra
from dillema.config_check import list_mistakes
from dillema.context import JobContext
from dillema.errors import UserError
from dillema.job.accept import accept
from dillema.overrides import prepare

ENOUGH = {"sources": 30, "groups": 30, "n": 30}


def figures(drop, low, high, **rest):
    return ENOUGH | {"metric": "accuracy", "drop": drop, "low": low, "high": high} | rest


def value(attribute, to, drop, low, high, harmful, **rest):
    return figures(drop, low, high, attribute=attribute, to=to, harmful=harmful, **rest)


MODEL = figures(
    0.3, 0.2, 0.4,
    placebo=figures(0.05, 0.02, 0.08),
    per_value=[
        value("weather", "foggy", 0.5, 0.4, 0.6, True, edit_drop=0.45, edit_low=0.35, edit_high=0.55),
        value("weather", "cloudy", 0.04, -0.01, 0.09, False),
        value("colour", "red", 0.1, 0.0, 0.2, None, sources=2, groups=2),
    ],
)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Returns the folder of a run with one model."""
    return write_results(tmp_path / "run", {"net": MODEL})


def write_results(folder, models, gates=("segmenter",)):
    folder.mkdir()
    content = {
        "version": 2, "name": "test", "dataset": "d", "task": "classification", "classes": ["a"],
        "colours": [], "ignored": [], "gates": list(gates), "models": models,
        "counts": {"sources": 30, "generated": 40, "valid": 30},
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(content))
    return folder


def check(run, tmp_path, **criteria):
    """Returns the verdict of each criterion, and the message of the job."""
    context = JobContext(without_hydra(compose(["job=accept", f"run={run}"])), tmp_path)
    message = ""
    try:
        accept(context, **criteria)
    except UserError as error:
        message = str(error)
    rows = json.loads((tmp_path / "acceptance.json").read_text())["criteria"]
    return [row["verdict"] for row in rows], rows, message


@pytest.mark.parametrize(
    ("criteria", "verdict"),
    [
        ({"max_drop": 0.4}, "holds"),
        ({"max_drop": 0.3}, "not shown"),
        ({"max_drop": 0.1}, "fails"),
        ({"max_placebo_drop": 0.1}, "holds"),
        ({"max_placebo_drop": 0.01}, "fails"),
        ({"min_valid": 0.75}, "holds"),
        ({"min_valid": 0.76}, "fails"),
        ({"max_drops": {"weather": {"foggy": 0.3}}}, "fails"),
        ({"max_drops": {"weather": {"cloudy": 0.1}}}, "holds"),
        ({"max_drops": {"weather": {"rainy": 0.1}}}, "not shown"),
        ({"max_drops": {"colour": {"red": 0.9}}}, "not shown"),
        ({"max_edit_drops": {"weather": {"foggy": 0.55}}}, "holds"),
        ({"max_edit_drops": {"weather": {"foggy": 0.5}}}, "not shown"),
        ({"max_edit_drops": {"weather": {"foggy": 0.3}}}, "fails"),
        ({"max_edit_drops": {"weather": {"cloudy": 0.9}}}, "not shown"),  # no placebo of its sources
        ({"max_harmful": 0}, "fails"),
        ({"max_harmful": 1}, "not shown"),  # red may be the second one
        ({"max_harmful": 2}, "holds"),
    ],
)
def test_a_criterion_holds_only_where_the_images_show_it(run, tmp_path, criteria, verdict):
    verdicts, _, message = check(run, tmp_path, **criteria)
    assert verdicts == [verdict]
    assert message == "" if verdict == "holds" else f"1 {verdict}" in message


def test_all_criteria_are_checked_and_shown(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    verdicts, rows, message = check(run, tmp_path, max_drop=0.4, max_harmful=0, min_valid=0.5)
    assert verdicts == ["holds", "holds", "fails"] and "2 holds, 1 fails" in message
    assert rows[0]["measured"] == "75.0 %, 30 of 40" and rows[0]["limit"] == 0.5
    assert rows[1]["measured"] == "30.0 (20.0 to 40.0)"
    assert rows[2]["measured"] == "1 harmful: foggy; not decided: red"
    shown = capsys.readouterr().out
    assert "net: drop, generator included" in shown and "at most 40.0" in shown and "at least 50.0 %" in shown


def test_criteria_say_whether_the_generators_part_is_in_the_drop(run, tmp_path):
    limits = {"weather": {"foggy": 0.6}}
    _, rows, _ = check(run, tmp_path, max_drop=0.4, max_drops=limits, max_edit_drops=limits)
    assert {row["name"]: row["measured"] for row in rows} == {
        "drop, generator included": "30.0 (20.0 to 40.0)",
        "drop with weather → foggy, generator included": "50.0 (40.0 to 60.0)",
        "drop with weather → foggy, beyond the generator alone": "45.0 (35.0 to 55.0)",
    }


def test_without_a_gate_or_a_placebo_nothing_is_shown(tmp_path):
    run = write_results(tmp_path / "unchecked", {"net": MODEL | {"placebo": None}}, gates=())
    assert check(run, tmp_path, min_valid=0.1, max_placebo_drop=1.0)[0] == ["not shown", "not shown"]


def test_a_job_with_nothing_to_check_says_what_can_be_checked(run, tmp_path):
    context = JobContext(without_hydra(compose(["job=accept", f"run={run}"])), tmp_path)
    with pytest.raises(UserError, match=r"job\.max_drop=0\.1"):
        accept(context)


@pytest.mark.parametrize("setting", ["max_drops", "max_edit_drops"])
@pytest.mark.parametrize("limits", [0.2, {"foggy": "low"}, {"foggy": 20}])
def test_limits_of_values_that_are_no_shares_are_refused(run, tmp_path, setting, limits):
    context = JobContext(without_hydra(compose(["job=accept", f"run={run}"])), tmp_path)
    with pytest.raises(
        UserError, match=rf"job\.{setting}\.weather: give its values with a number from 0 to 1"
    ):
        accept(context, **{setting: {"weather": limits}})


def test_criteria_come_from_the_command_line(run):
    arguments = prepare(
        ["job=accept", f"run={run}", "job.max_drops={weather: {foggy: 0.2}}", "job.max_drop=2"]
    )
    cfg = compose(arguments)
    assert without_hydra(cfg).job.max_drops == {"weather": {"foggy": 0.2}}
    assert any("job.max_drop: must be a number from 0 to 1" in mistake for mistake in list_mistakes(cfg))
