"""Makes damaged inputs from a seed, and reads each in a process with limits of time and memory."""

import itertools
import logging
import multiprocessing
import os
import random
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from dillema.errors import MESSAGE_LENGTH, ItemError, UserError

from .format import Accepted, Format, is_equal

GROUPS = (
    "images",
    "tables",
    "annotations",
    "settings",
    "archives",
    "run_folders",
    "stores",
    "checkpoints",
)
SLOW_GROUPS = {"run_folders": 4, "stores": 2}
"""Groups whose inputs take long to read, and how many times fewer cases they have."""

START_SECONDS = 300  # for the imports and the undamaged input
SECONDS = 20  # of CPU time for one input; what takes longer hangs
SECONDS_IN_ALL = 60  # also of waiting, on a machine that is in use
MEGABYTES = 1000  # beyond what the libraries take
GOOD = ("read", "recorded", "refused")
FAULTS = ("wrong", "crashed", "hung", "memory", "died")


@dataclass(frozen=True)
class Case:
    """A damaged input: the names of a group, a format and a damage, and the seed of the damage."""

    group: str
    format: str
    damage: str
    seed: int

    def __str__(self) -> str:
        return f"{self.format}: {self.damage} ({self.seed})"


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged input.

    Attributes:
        kind: `read` (rightly), `recorded` (an item's failure), `refused` (one message), or a fault: `wrong`
            (silently), `crashed` (a traceback), `hung`, `memory` (too much of it), `died` (the process).
        detail: The message, or the traceback.
        megabytes: The most memory that reading took, beyond what the process had before.
    """

    case: Case
    kind: str
    detail: str = ""
    megabytes: int = 0


def make_cases(count: int, seed: int = 0) -> list[Case]:
    """Returns cases of every format in turn; the first of each format have different damages."""
    rng = random.Random(seed)
    damages = {
        (group, format.name): rng.sample(sorted(format.damages), len(format.damages))
        for group in GROUPS
        for format in load_formats(group).values()
    }
    cases: list[Case] = []
    for turn in itertools.count():
        for (group, name), choices in damages.items():
            if turn % SLOW_GROUPS.get(group, 1) == 0:
                cases.append(Case(group, name, choices[turn % len(choices)], rng.randrange(1 << 30)))
        if len(cases) >= count:
            return cases[:count]
    raise AssertionError


def load_formats(group: str) -> dict[str, Format]:
    """Returns the formats of a module of `formats` by name."""
    return {format.name: format for format in import_module(f"{__package__}.formats.{group}").FORMATS}


def run_cases(cases: Sequence[Case]) -> Iterator[Outcome]:
    """Yields the outcome of each case. A group has a process; one that hangs or dies is replaced."""
    for group in GROUPS:
        yield from _run_group([case for case in cases if case.group == group])


def _run_group(waiting: list[Case]) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    waiting.sort(key=lambda case: case.format)
    while waiting:
        parent, child = context.Pipe()
        worker = context.Process(target=_work, args=(child, waiting), daemon=True)
        worker.start()
        child.close()
        for outcome in _receive(parent, worker, waiting):
            waiting.pop(0)
            yield outcome
        worker.kill()
        worker.join()


def _receive(parent: Connection, worker: Any, cases: Sequence[Case]) -> Iterator[Outcome]:
    """Yields outcomes until the process hangs, takes too much memory or dies."""
    for case in list(cases):
        try:
            if not parent.poll(START_SECONDS) or parent.recv() != str(case):
                raise TimeoutError(f"{case} does not start")
            start = time.monotonic()
            before, start_cpu = _resident_megabytes(worker.pid), _cpu_seconds(worker.pid)
            while not parent.poll(0.05):
                megabytes = _resident_megabytes(worker.pid) - before
                if megabytes > 2 * MEGABYTES:
                    yield Outcome(case, "memory", f"{megabytes} MB", megabytes)
                    return
                seconds = _cpu_seconds(worker.pid) - start_cpu
                if seconds > SECONDS or time.monotonic() - start > SECONDS_IN_ALL:
                    yield Outcome(case, "hung", f"{seconds:.0f} s of CPU time", megabytes)
                    return
            outcome = parent.recv()
        except EOFError:
            worker.join()
            yield Outcome(case, "died", f"exit code {worker.exitcode}")
            return
        yield outcome


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _resident_megabytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize() >> 20


def _work(connection: Connection, cases: Sequence[Case]) -> None:
    """Reads cases of a group one after the other; announces each, and sends its outcome."""
    formats = load_formats(cases[0].group)
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    originals: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as base, open(os.devnull, "w") as null:  # noqa: PTH123
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)
        for case in cases:
            format, good = formats[case.format], Path(base, "good", case.format.replace("/", "_"))
            if case.format not in originals:
                format.make(good)
                originals[case.format] = format.read(_copy(good, Path(base, "copy")))
            folder = _copy(good, Path(base, "case"))
            is_damaged = _damage(case, format, folder)
            connection.send(str(case))
            outcome = _run(case, format, folder, originals[case.format])
            connection.send(outcome if is_damaged else replace(outcome, detail="not damaged"))


def _damage(case: Case, format: Format, folder: Path) -> bool:
    """Damages an input; returns False for a damage that this file cannot have."""
    try:
        format.damages[case.damage](folder / format.file, random.Random(case.seed))
    except (ValueError, IndexError):
        return False
    return True


def _run(case: Case, format: Format, folder: Path, original: Any) -> Outcome:
    before = _resident_megabytes(os.getpid())
    _forget_peak()
    kind, detail = _read(format, folder, original)
    megabytes = _peak_megabytes()
    if kind in GOOD and megabytes - before > MEGABYTES:
        kind, detail = "memory", f"{before} MB before, {megabytes} MB at most: {detail}"
    return Outcome(case, kind, detail, megabytes - before)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_megabytes() -> int:
    """Returns the most memory that this process has used since `_forget_peak`."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) >> 10


def _read(format: Format, folder: Path, original: Any) -> tuple[str, str]:
    damaged = _copy(folder, folder.with_name("damaged"))  # reading may change a file
    try:
        value = format.read(folder)
    except UserError as error:
        return _check_message("refused", str(error))
    except ItemError as error:
        return _check_message("recorded", str(error))
    except MemoryError as error:
        return "memory", str(error)
    except BaseException:
        return "crashed", traceback.format_exc()[-2000:]
    if isinstance(value, Accepted) or is_equal(value, original):
        return "read", ""
    try:
        expected = format.reference(damaged) if format.reference else None
    except Exception as error:
        return "wrong", f"read as {str(value)[:300]}; the reference: {error!r}"[:1000]
    if expected is not None and is_equal(value, expected):
        return "read", "another valid file"
    return (
        "wrong",
        f"read as {str(value)[:300]} instead of {str(expected if format.reference else original)[:300]}",
    )


def _check_message(kind: str, message: str) -> tuple[str, str]:
    if not message.strip() or len(message) > MESSAGE_LENGTH + 100:
        return "crashed", f"a message of {len(message)} characters: {message[:500]}"
    return kind, message


def _copy(source: Path, target: Path) -> Path:
    if target.is_dir():
        shutil.rmtree(target)
    os.makedirs(target.parent, exist_ok=True)  # noqa: PTH103
    shutil.copytree(source, target, symlinks=True, copy_function=_copy_file)
    return target


def _copy_file(source: str, target: str) -> None:
    if Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copy2(source, target, follow_symlinks=False)
