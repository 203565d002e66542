"""Whole runs of the default configuration: time, memory, repetition, crashes, start-up."""

import hashlib
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ...run_folder import RunFolder
from .rows import Row

COMMAND = [sys.executable, "-m", "dillema"]
KILLS = 10
MISSPELLED = ("temprature", "stepz")
DIFFERS_BETWEEN_RUNS = ("name", "seconds", "wall_seconds")  # in results.json


@dataclass(frozen=True)
class _Outcome:
    """The figures of a run, and a hash of each of its images."""

    results: dict[str, Any]
    images: dict[str, str]


def measure_runs(cfg: DictConfig) -> Iterator[Row]:
    """Yields the first run, its repetition, runs that are killed, and the time to start."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as crash_folder:
        seconds = _time_command(COMMAND, folder)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        outcome = _read_outcome(Path(folder))
        yield _first_run(outcome.results["counts"], seconds, memory)
        repeated = _time_command(COMMAND, folder)
        measured = f"{repeated:.0f} s"
        figures = {"seconds": repeated}
        yield Row("the same command again", "no work is repeated", measured, "25 s", repeated < 25, figures)
        yield _killed_runs(crash_folder, outcome, seconds)
        yield _start_up(folder)


def _first_run(counts: dict[str, int], seconds: float, memory: float) -> Row:
    sources, generated = counts["sources"], counts["generated"]
    return Row(
        "first run",
        f"`python -m dillema`, {sources} sources, {generated} images, {counts['placebos']} placebos",
        f"{seconds:.0f} s, {memory:.1f} GB",
        "180 s, 24 sources, 3 each, 4 GB",
        seconds < 180 and memory < 4 and sources >= 24 and generated >= 72,
        {"seconds": seconds, "gigabytes": memory, "counts": counts},
    )


def _killed_runs(folder: str, expected: _Outcome, run_seconds: float) -> Row:
    """Kills runs at random moments, lets one finish, and compares it with a run that was not killed."""
    rng, kills = random.Random(0), 0
    for _ in range(KILLS):
        process = subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(3, max(run_seconds / 6, 5)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    _time_command(COMMAND, folder)
    outcome = _read_outcome(Path(folder))
    equal_images = sum(expected.images.get(name) == digest for name, digest in outcome.images.items())
    equal_results = outcome.results == expected.results
    state = "equal" if equal_results else "differ"
    return Row(
        "crash",
        f"`kill -9` at random moments, {kills} of {KILLS} before the run ended; then the same command",
        f"{equal_images} of {len(expected.images)} images equal, results {state}",
        "ten kills, all equal",
        outcome == expected and kills == KILLS,
        {
            "kills": kills,
            "images": len(expected.images),
            "equal": equal_images,
            "results_equal": equal_results,
        },
    )


def _start_up(folder: str) -> Row:
    help_seconds = min(_time_command([*COMMAND, "--help"], folder) for _ in range(3))
    misspelled_command = [*COMMAND, "+llm.temprature=1", "+generator.stepz=2"]
    refusal_seconds = min(_time_command(misspelled_command, folder, exit_code=1) for _ in range(3))
    refusal = subprocess.run(misspelled_command, cwd=folder, capture_output=True, text=True)
    named = all(word in refusal.stdout + refusal.stderr for word in MISSPELLED)
    return Row(
        "start-up",
        "`--help`; a configuration with two mistakes (best of 3)",
        f"{help_seconds:.2f} s; {refusal_seconds:.2f} s, {'both' if named else 'not both'} named",
        "1.5 s; 2 s, both named",
        help_seconds < 1.5 and refusal_seconds < 2 and named,
        {"help": help_seconds, "mistakes": refusal_seconds},
    )


def _time_command(command: list[str], folder: str, exit_code: int = 0) -> float:
    """Returns the seconds that a command takes; ends the benchmark when its exit code is another one."""
    start = time.perf_counter()
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if process.returncode != exit_code:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{process.stderr[-2000:]}")
    return time.perf_counter() - start


def _read_outcome(folder: Path) -> _Outcome:
    """Returns the outcome of the newest run that was started in a folder."""
    files = folder.glob("outputs/*/*/results.json")
    run = RunFolder.open(max(files, key=lambda path: path.stat().st_mtime).parent)
    results = {name: value for name, value in run.results.items() if name not in DIFFERS_BETWEEN_RUNS}
    images = {
        str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.path.rglob("*.png")
    }
    return _Outcome(results, images)
