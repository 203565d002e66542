"""Runs that are killed or asked to stop: the same command goes on and ends with the same bytes."""

import contextlib
import hashlib
import json
import random
import re
import shutil
import signal
import sqlite3
import time

import pytest

from .commands import SMALL, Command, started

PAUSE = "0.02"
STEPS = ("Captioner", "Editor", "Conditioning", "Generator", "Gate", "Model")
SOME_STOPS = (("Captioner", signal.SIGINT, True), ("Gate", signal.SIGHUP, False))
STOPPED = "the same command goes on from here"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
IN_FLIGHT = (
    4 * 8
)  # items of a batch that a kill may cost: those of the model are predicted 8 batches at a time
CHANGING = ("name", "seconds", "wall_seconds", "digest")


@pytest.fixture(scope="module")
def commands():
    with started() as commands:
        yield commands


@pytest.fixture(scope="module")
def undisturbed(commands, tmp_path_factory, mlflow_tables):
    """Returns what a run leaves that nothing disturbs, and how many items it worked on."""
    folder = home(tmp_path_factory.mktemp("undisturbed"), mlflow_tables)
    commands.run(folder, *SMALL)
    return left_behind(folder), len(diary(folder))


def home(folder, mlflow_tables=None):
    """Returns a folder to start commands in; with MLflow's tables, which take seconds to create."""
    (folder / "outputs").mkdir()
    if mlflow_tables:
        shutil.copy(mlflow_tables, folder / "outputs" / "mlflow.db")
    return folder


def diary(folder):
    file = folder / "diary"
    return file.read_text().splitlines() if file.exists() else []


def newest(folder):
    return max(folder.glob("outputs/*/*/results.json"), key=lambda path: path.stat().st_mtime).parent


def left_behind(folder):
    """Returns the figures of the newest run, and hashes of its images and of what it says of them."""
    run = newest(folder)
    results = {k: v for k, v in json.loads((run / "results.json").read_text()).items() if k not in CHANGING}
    files = [
        path for path in run.rglob("*") if path.suffix in (".png", ".jsonl") and "report" not in path.parts
    ]
    return results, {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def wait_for(command: Command, folder, backend: str, count: int = 1, seconds: float = 60):
    """Waits until a back-end has worked on items, beyond those of earlier commands."""
    begun = sum(line.startswith(backend) for line in diary(folder))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if sum(line.startswith(backend) for line in diary(folder)) >= begun + count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{backend} did not begin: {command.output}")


def statuses(folder):
    with sqlite3.connect(folder / "outputs" / "mlflow.db") as database:
        rows = database.execute(
            "SELECT status FROM runs JOIN experiments USING (experiment_id) "
            "WHERE experiments.name = 'dillema' ORDER BY start_time"
        )
        return [status for (status,) in rows]


def wait_for_text(command: Command, text: str, seconds: float = 60):
    """Waits until a command has written a text to the screen."""
    end = time.monotonic() + seconds
    while text not in command.output:
        assert time.monotonic() < end, f"no {text!r}: {command.output}"
        time.sleep(0.005)


def stop(command, signal_number, again=False):
    """Sends a signal, and another one soon after it; returns the exit code and the seconds until the end."""
    start = time.monotonic()
    command.send(signal_number)
    if again:
        time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            command.send(signal_number)
    code = command.wait(30)
    return code, time.monotonic() - start


def test_a_run_that_is_killed_and_then_stopped_goes_on_to_the_same_end(
    commands, undisturbed, tmp_path, mlflow_tables
):
    expected, items = undisturbed
    folder = home(tmp_path, mlflow_tables)
    killed = commands.start(folder, *SMALL, PAUSE=PAUSE)
    wait_for(killed, folder, "Editor", 5)
    killed.send(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    stopped = commands.start(folder, *SMALL, PAUSE=PAUSE)
    wait_for(stopped, folder, "Generator", 5)
    code, seconds = stop(stopped, signal.SIGTERM)
    assert code == 143 and seconds < 3 and STOPPED in stopped.output and "Traceback" not in stopped.output
    assert statuses(folder) == ["KILLED", "KILLED"]
    commands.run(folder, *SMALL)
    assert left_behind(folder) == expected
    assert len(diary(folder)) <= items + 2 * IN_FLIGHT
    assert statuses(folder)[2:] == ["FINISHED"]


def stop_in(step, signal_number, again, commands, folder):
    """Stops a command while a back-end works, and checks how it ends."""
    command = commands.start(folder, *SMALL, PAUSE=PAUSE)
    wait_for(command, folder, step)
    code, seconds = stop(command, signal_number, again)
    assert (code, seconds < 3) == (CODES[signal_number], True), f"{step}: {seconds:.1f} s {command.output}"
    assert STOPPED in command.output and "Traceback" not in command.output, f"{step}: {command.output}"


def test_a_run_is_stopped_by_two_interrupts_and_by_the_end_of_its_terminal(
    commands, undisturbed, tmp_path, mlflow_tables
):
    folder = home(tmp_path, mlflow_tables)
    for step, signal_number, again in SOME_STOPS:
        stop_in(step, signal_number, again, commands, folder)
    assert statuses(folder) == ["KILLED"] * len(SOME_STOPS)
    commands.run(folder, *SMALL)
    assert left_behind(folder) == undisturbed[0]


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("signal_number", CODES)
def test_a_run_stops_in_every_step(commands, undisturbed, tmp_path, mlflow_tables, signal_number, again):
    expected, _ = undisturbed
    folder = home(tmp_path, mlflow_tables)
    for step in STEPS:
        stop_in(step, signal_number, again, commands, folder)
    assert set(statuses(folder)) == {"KILLED"}
    commands.run(folder, *SMALL)
    assert left_behind(folder) == expected


@pytest.mark.slow
def test_a_run_stops_at_any_moment_from_its_start(commands, undisturbed, tmp_path):
    expected, _ = undisturbed
    moments, folder = random.Random(3), home(tmp_path)
    for number in range(18):
        signal_number = list(CODES)[number % 3]
        command = commands.start(folder, *SMALL, PAUSE="0.005")
        time.sleep(moments.uniform(0.05, 5))
        code, seconds = stop(command, signal_number)
        assert code in (CODES[signal_number], 0, -signal_number) and seconds < 3, (
            f"{code} {seconds} {command.output}"
        )
        assert "Traceback" not in command.output, command.output
    commands.run(folder, *SMALL)
    assert left_behind(folder) == expected


@pytest.mark.slow
def test_fifty_kills_of_runs_sweeps_and_judgements_from_the_first_use_of_mlflow(
    commands, undisturbed, tmp_path
):
    expected, items = undisturbed
    moments, folder, kills = random.Random(4), home(tmp_path), 0
    jobs = [SMALL, ("-m", *SMALL, "seed=0,1"), SMALL]
    for number in range(50):
        finished = [path.parent for path in folder.glob("outputs/*/*/results.json")]
        arguments = jobs[number % 3]
        if finished and number % 5 == 0:
            arguments = ("job=judge", f"run={finished[0]}", *SMALL[:1], "validity.brightness.least=0.5")
        command = commands.start(folder, *arguments, PAUSE="0.01")
        time.sleep(moments.uniform(0.1, 3))
        with contextlib.suppress(ProcessLookupError):
            command.send(signal.SIGKILL)
        kills += command.wait() == -signal.SIGKILL
        assert not re.search("Traceback", command.output), command.output
    commands.run(folder, *SMALL)
    assert left_behind(folder) == expected
    print(f"{kills} of 50 kills met a command at work; {len(diary(folder))} items, {items} undisturbed")
    assert kills >= 25


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4, 8])
def test_runs_at_once_share_the_work_from_an_empty_folder(commands, undisturbed, tmp_path, count):
    expected, items = undisturbed
    folder = home(tmp_path)
    at_once = [commands.start(folder, *SMALL, PAUSE=PAUSE) for _ in range(count)]
    assert [command.wait(300) for command in at_once] == [0] * count, [command.output for command in at_once]
    assert statuses(folder) == ["FINISHED"] * count
    runs = [path.parent for path in folder.glob("outputs/*/*/results.json")]
    assert len(runs) == count
    assert left_behind(folder) == expected
    assert len(diary(folder)) == items  # no item was computed twice
