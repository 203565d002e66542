"""Measures the steps of a pipeline while it runs."""

import copy
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from .. import hub
from ..backend import Work
from ..errors import UserError
from ..execution import run_batch
from ..execution.batch import is_memory_error, release_memory
from ..execution.local import Local
from ..keys import digest
from ..runner import Item, Outcome, Runner
from ..steps.base import Step
from ..store import Store
from .bare import BareLoop, make_loop, record_questions
from .machine import Rates, measure_rates, synchronise
from .naive import find_way

log = logging.getLogger(__name__)

BATCHES = (1, 2, 4, 8, 16, 32, 64)
GAIN = 1.03  # a larger batch is better if it does this many times as many items a second


@dataclass
class StageFigures:
    """What was measured of a stage: seconds an item, a value for each round.

    Attributes:
        stage: The step and the name of its back-end.
        per_source: How many items of the stage a source has.
        items: How many items were measured.
        device: Where its network was.
        batch: The batch size of ours; `bare_batch` is the best one of the bare loop.
        load: Seconds to load the back-end.
        ours: With records and images written to a store, the back-end being loaded.
        naive: One item at a time, with everything loaded for it.
        bare: A bare loop of the library on inputs in memory; empty where there is none for the class.
        limit: What the matrix products or the weights take at the machine's highest rates.
        error: Why the stage was not measured to its end.
    """

    stage: str
    per_source: float
    items: int
    device: str
    batch: int
    bare_batch: int | None = None
    load: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)
    error: str = ""


@dataclass
class Measuring(Runner):
    """A runner that, once a step is finished, measures it on some of its items.

    Attributes:
        per_source: How many items each step has a source.
        most_items: On how many items a stage is measured at most.
        rounds: How often; within a round all ways follow one another, so that their ratios do not depend on
            a load of the machine that changes slowly.
        after_stage: Called with the figures of all stages so far.
    """

    per_source: dict[str, float] = field(default_factory=dict)
    most_items: int = 8
    rounds: int = 3
    after_stage: Callable[[list[StageFigures]], None] = lambda stages: None
    stages: list[StageFigures] = field(default_factory=list)

    def run(self, step: Step[Item], items: Sequence[Item]) -> dict[str, Outcome[Item]]:
        """Returns the finished items by id, as a runner does; an error of a measurement is only noted."""
        outcomes = super().run(step, items)
        unlike = list({digest(step.key(o.item)): o.item for o in outcomes.values()}.values())
        if not unlike:
            return outcomes
        figures = StageFigures(
            name_stage(step),
            self.per_source.get(step.name, 1.0),
            len(unlike[: self.most_items]),
            _device(step.backend),
            step.batch_size,
        )
        self.stages.append(figures)
        log.info("%s: measuring %d items, %d rounds", figures.stage, figures.items, self.rounds)
        if isinstance(self.executor, Local):
            self.executor.unload()  # its memory is needed for the back-end that is measured
        try:
            for done in _measure(step, unlike[: self.most_items], figures, self.rounds):
                log.info("%s: round %d of %d, %.3f s an item", figures.stage, done, self.rounds,
                         figures.ours[-1])  # fmt: skip
        except Exception as error:
            figures.error = f"{type(error).__name__}: {error}"
            is_expected = isinstance(error, UserError) or is_memory_error(error)
            log.warning("%s is not measured: %s", figures.stage, error, exc_info=not is_expected)
        release_memory()
        self.after_stage(self.stages)
        return outcomes


def name_stage(step: Step[Any]) -> str:
    """Returns the name of a step, with that of its back-end where there may be several."""
    name = getattr(step.backend, "name", None) if step.name in ("control", "predict") else None
    return f"{step.name} {name}" if name else step.name


def _measure(step: Step[Any], items: Sequence[Any], figures: StageFigures, rounds: int) -> Iterator[int]:
    """Measures a step round by round; yields the number of each round that is done."""
    dtype = hub.placement(figures.device, getattr(step.backend, "dtype", "float32"))[1]
    naive = find_way(step)
    loop: BareLoop | None = None
    for number in range(rounds):
        figures.naive.append(_time(figures.device, lambda: naive(items[0])))
        questions = _measure_ours(step, items, figures)
        if number == 0:
            loop = make_loop(step, items, questions)
            figures.bare_batch = None if loop is None else _find_best_batch(loop, figures.device)
        if loop is not None and figures.bare_batch is not None:
            seconds = _time_loop(loop, figures.bare_batch, figures.device)
            figures.bare.append(seconds * loop.per_item)
            figures.limit.append(_limit(loop, measure_rates(figures.device, dtype)))
        yield number + 1


def _measure_ours(step: Step[Any], items: Sequence[Any], figures: StageFigures) -> list[Any]:
    """Adds the time of our code, with its back-end loaded; returns what a language model was asked."""
    loaded = copy.deepcopy(step.backend)
    if loaded is not None:
        figures.load.append(_time(figures.device, loaded.load))
    executor = _Loaded(loaded)
    with tempfile.TemporaryDirectory() as folder:
        # what is done once for a back-end is no part of the time of an item
        run_batch(lambda batch: step.work(loaded, batch), items[-1:])
        questions = record_questions(loaded)
        store = Store(Path(folder) / "store")
        runner = Runner(store, executor, max_failures=len(items), allow_total_failure=True)
        seconds = _time(figures.device, lambda: runner.run(step, items))
        store.close()
    if runner.failures:
        raise UserError(f"{len(runner.failures)} items failed: {runner.failures[0]['message']}")
    figures.ours.append(seconds / len(items))
    return questions


def _find_best_batch(loop: BareLoop, device: str) -> int:
    """Returns the batch size with which a loop is fastest; larger ones are tried as long as they gain."""
    best, shortest = 1, _time_loop(loop, 1, device, only_one=True)
    for batch in BATCHES[1:] if loop.batches else ():
        try:
            seconds = _time_loop(loop, batch, device, only_one=True)
        except Exception as error:
            if not is_memory_error(error):
                raise
            release_memory()
            break
        if seconds * GAIN > shortest:
            break
        best, shortest = batch, seconds
    return best


def _time_loop(loop: BareLoop, batch: int, device: str, only_one: bool = False) -> float:
    """Returns the seconds an input takes in batches of a size; `only_one`: the shorter of two batches."""
    count = batch if only_one else batch * max(1, round(len(loop.inputs) / batch))
    inputs = list(islice(cycle(loop.inputs), count))

    def work() -> None:
        with torch.no_grad():
            for start in range(0, count, batch):
                loop.work(inputs[start : start + batch])

    return min(_time(device, work) for _ in range(2 if only_one else 1)) / count


def _limit(loop: BareLoop, rates: Rates) -> float:
    """Returns the seconds that an item takes at the machine's highest rates."""
    return loop.per_item * (loop.operations / rates.operations + loop.bytes / rates.bytes)


def _time(device: str, work: Callable[[], Any]) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def _device(backend: Any) -> str:
    """Returns the device of a back-end."""
    return hub.placement(getattr(backend, "device", "cpu"), "float32")[0]


@dataclass
class _Loaded:
    """Runs a step with a back-end that is loaded; shows no progress, because it has several blocks."""

    backend: Any

    devices: int = 1
    blocks: int = 2
    block_size: int = 1

    def load(self, backend: Any) -> None:
        """Does nothing: the back-end is loaded."""

    def map(self, step: Work, batches: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
        """Yields the results of each batch, in order."""
        for batch in batches:
            yield run_batch(lambda items: step.work(self.backend, items), batch)

    def stop(self) -> None:
        """Does nothing: all work is done in the thread that waits for it."""
