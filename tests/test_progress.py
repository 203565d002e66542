"""How long a run will still take."""

import re
import time

import pytest

from dillema.progress import Forecast, format_rate, format_time_left, show_progress
from dillema.validity.image import ImageGate
from tests.backends import Model, run_pipeline

STEPS = [("caption", 1), ("generate", 4), ("gate segmenter", 4), ("predict", 5), ("predict", 5)]


def test_the_time_left_is_that_of_all_steps_and_blocks_to_come():
    seconds = {"caption": 1.0, "generate": 2.0, "gate segmenter": 0.5, "predict": 0.1}
    forecast = Forecast(STEPS, 20, seconds)
    of_a_source = 1 + 4 * 2 + 4 * 0.5 + 2 * 5 * 0.1
    assert forecast.seconds_left == pytest.approx(20 * of_a_source)
    forecast.begin("caption", 10, 0)
    forecast.advance(5, 10.0)  # twice as slow as usual
    assert forecast.seconds_left == pytest.approx(5 * 2 + 10 * (of_a_source - 1) + 10 * (of_a_source + 1))
    forecast.begin("generate", 40, 30)  # of which 30 are in the store
    assert forecast.seconds_left == pytest.approx(10 * 2 + 10 * 3 + 10 * (of_a_source + 1))
    for _ in range(2):
        forecast.begin("predict", 50, 50)
    assert forecast.seconds_left == pytest.approx(10 * (of_a_source + 1))
    forecast.begin("caption", 10, 10)
    for step, items in STEPS[1:]:
        forecast.begin(step, 10 * items, 10 * items)
    assert forecast.seconds_left == 0 and forecast.share == 1


def test_every_step_of_a_run_is_foreseen(tmp_path):
    parts = {"models": (Model(), Model(name="second", gain=2.0)), "placebos": 1, "gates": [ImageGate()]}
    _, runner = run_pipeline(tmp_path / "run", tmp_path / "store", **parts)
    assert runner.forecast.seconds_left == 0
    steps = runner.store.usual_seconds()
    assert set(steps) == {step for step, _ in runner.forecast.steps} and min(steps.values()) > 0


def test_steps_that_never_ran_are_as_much_slower_than_typical_as_the_others():
    slow, fast = Forecast(STEPS, 10, {}), Forecast(STEPS, 10, {})
    for forecast, seconds in ((slow, 20.0), (fast, 0.2)):
        forecast.begin("caption", 10, 0)
        forecast.advance(10, seconds)
    assert slow.seconds_left == pytest.approx(100 * fast.seconds_left)


def test_a_terminal_shows_one_line_for_all_steps_and_one_for_the_step(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    forecast = Forecast(STEPS, 10, {"generate": 60.0})
    forecast.begin("generate", 40, 0)
    with show_progress("generate", 40, forecast) as progress:
        progress.advance(8, 8 * 60.0)
        time.sleep(0.2)
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", capsys.readouterr().err)
    (*_, all_steps, step) = [line for line in re.split(r"[\r\n]+", shown) if line.strip()]
    assert all_steps.startswith("all steps") and "min left" in all_steps
    assert step.startswith("generate") and "8/40" in step and max(len(all_steps), len(step)) <= 80


def test_the_first_batch_tells_the_speed_only_as_long_as_there_is_no_other():
    forecast = Forecast(STEPS[-1:], 10, {})
    forecast.begin("predict", 30, 0)
    with show_progress("predict", 30, forecast) as progress:
        progress.advance(10, 20.0)  # it waited for imports
        assert forecast.seconds_left == pytest.approx(20 * 2.0) and progress.seconds_each == 2
        progress.advance(10, 1.0)
        assert forecast.seconds_left == pytest.approx(10 * 0.1) and progress.seconds_each == 0.1


def test_a_slow_step_has_seconds_an_item():
    assert [format_rate(30, 2.0), format_rate(2, 30.0)] == ["15.0/s", "15.0 s each"]


def test_times_are_rounded():
    assert [format_time_left(seconds) for seconds in (0.2, 42, 150, 2 * 3600)] == [
        "about 1 s left",
        "about 42 s left",
        "about 2 min left",
        "about 2 h left",
    ]
