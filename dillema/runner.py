"""Runs a step on its items: looks up finished items, computes the missing ones, stores and reports them."""

import logging
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from PIL import Image

from .backend import Executor
from .errors import MESSAGE_LENGTH, ItemError, UserError, shorten
from .execution import in_threads
from .keys import digest, identity
from .progress import Forecast, StepProgress, format_rate, show_progress
from .speeds import note_speed
from .steps.base import Step, StepResult
from .store import RAW_LIMIT, Images, Record, Store, storable

log = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Outcome(Generic[Item]):
    """A finished item of a step.

    Attributes:
        item: The item.
        value: The result of the step.
        key: The key of its record.
        images: The images of the store.
    """

    item: Item
    value: Any
    key: str
    images: Images

    @property
    def image(self) -> Path:
        """Returns the path of its image, if the step makes images."""
        return self.images.path(self.key)


@dataclass(frozen=True)
class StoringStep:
    """A step whose items are pairs: an item and its key. Processes that are given it write its images.

    Attributes:
        process: The process that made it. Its results keep their images: the runner writes them while the
            next batch is computed.
    """

    step: Step[Any]
    images: Images
    process: int = field(default_factory=os.getpid)

    @property
    def name(self) -> str:
        """Returns the name of the step."""
        return self.step.name

    @property
    def backend(self) -> Any:
        """Returns the back-end of the step."""
        return self.step.backend

    def work(self, backend: Any, batch: Sequence[tuple[Any, str]]) -> list[StepResult | Exception]:
        """Returns the results with the time of each; without their images where these are written."""
        start = time.perf_counter()
        results = list(self.step.work(backend, [item for item, _ in batch]))
        if os.getpid() != self.process:
            results = write_images(self.images, [key for _, key in batch], results)
        seconds = (time.perf_counter() - start) / len(batch)
        return [
            replace(result, seconds=seconds) if isinstance(result, StepResult) else result
            for result in results
        ]


def write_images(
    images: Images, keys: Sequence[str], results: Sequence[StepResult | Exception]
) -> list[StepResult | Exception]:
    """Writes the images of results, all at the same time: the disk then confirms them together.

    Returns the results without images; for one that cannot be written, the exception.
    """
    written = list(results)
    made: list[tuple[int, str, StepResult]] = [
        (index, key, result)
        for index, (key, result) in enumerate(zip(keys, results, strict=False))  # the runner checks them
        if isinstance(result, StepResult) and result.image is not None
    ]
    errors = in_threads(lambda image: images.write(image[1], cast(Image.Image, image[2].image)), made)
    for (index, _, result), error in zip(made, errors, strict=True):
        written[index] = error or replace(result, image=None)
    return written


@dataclass
class Runner:
    """Runs steps over a store.

    Attributes:
        max_failures: Items of the run that may fail before it stops.
        retry_failed: Whether items that failed in an earlier run are tried again.
        allow_total_failure: Whether all items of a step may fail.
        in_parts: Whether `run` gets the items of a step in parts. A part may then fail as a whole;
            `refuse_total_failures` is called at the end.
        before_work: Called before items are computed.
        after_batch: Called with a step and the finished items of a batch, each with the file of its image.
        forecast: What is known about the steps to come, for the time that is left.
        failures: The failed items: step, id, message and raw reply.
        items: How many items each step had.
        seconds: The time of each step: that of its items when they were computed, in this run or earlier.
    """

    store: Store
    executor: Executor
    max_failures: int = 50
    retry_failed: bool = False
    allow_total_failure: bool = False
    in_parts: bool = False
    before_work: Callable[[], None] = lambda: None
    after_batch: Callable[[Step[Any], Sequence[tuple[Any, Path]]], None] = lambda step, finished: None
    forecast: Forecast | None = None
    failures: list[dict[str, str]] = field(default_factory=list)
    items: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    _finished: set[str] = field(default_factory=set, init=False, repr=False)
    _messages: dict[tuple[str, str], list[str]] = field(default_factory=dict, init=False, repr=False)
    # blocks of sources may be in work at the same time, each in a thread of its own
    _lock: Any = field(default_factory=threading.RLock, init=False, repr=False)

    def run(self, step: Step[Item], items: Sequence[Item]) -> dict[str, Outcome[Item]]:
        """Returns the finished items by id, in order; computes only those that are missing.

        Raises a UserError when more items of the run failed than `max_failures`, or when every item failed.
        """
        step_key = [step.name, step.version, identity(step.backend)]
        keys = [digest(step_key, step.key(item)) for item in items]
        ids = [step.item_id(item) for item in items]
        with self._lock:
            self.items[step.name] += len(items)
            records = self.store.get(keys)
            done = self._find_done(step, records)
            self._note_failures(
                step, [(i, records[key]) for i, key in zip(ids, keys, strict=True) if key in done]
            )
        missing = [(item, key) for item, key in zip(items, keys, strict=True) if key not in done]
        if self.forecast:
            self.forecast.begin(step.name, len(items), len(items) - len(missing))
        if missing:
            different, repeated = _split_repeats(missing)
            records |= self._compute_or_wait(step, different)
            with self._lock:
                self._note_failures(step, [(step.item_id(item), records[key]) for item, key in repeated])
        elif items:
            self._log_nothing_to_do(step, list(records.values()))
        seconds = sum(records[key].seconds for key in set(keys))
        with self._lock:
            self.seconds[step.name] = self.seconds.get(step.name, 0.0) + seconds
        self._note_step(step.name, digest(step_key), [records[key] for key in keys])
        if not self.in_parts:
            self.refuse_total_failures()
        return {
            item_id: Outcome(item, step.decode(records[key].value), key, self.store.images)
            for item_id, item, key in zip(ids, items, keys, strict=True)
            if not records[key].failed
        }

    def refuse_total_failures(self) -> None:
        """Raises a UserError if every item that a step got so far has failed."""
        for (name, step), messages in self._messages.items():
            if messages and step not in self._finished and not self.allow_total_failure:
                most_frequent = max(messages, key=messages.count)
                raise UserError(
                    f"all {len(messages)} items of the step {name} failed, most often because: "
                    f"{most_frequent}. failures.jsonl lists all of them; finished work is kept. "
                    "Remove the cause and try them again with retry_failed=true"
                )

    def _note_step(self, name: str, step: str, records: Sequence[Record]) -> None:
        """Notes whether any item of a step, which has this name and key, has finished."""
        with self._lock:
            if any(not record.failed for record in records):
                self._finished.add(step)
            elif step not in self._finished:
                messages = self._messages.setdefault((name, step), [])
                messages += [record.message for record in records]

    def _find_done(self, step: Step[Item], records: Mapping[str, Record]) -> set[str]:
        """Returns the keys of the records that make computing their items unnecessary."""
        failed = {key for key, record in records.items() if record.failed}
        finished = records.keys() - failed
        if step.images:
            finished = self.store.images.find(finished)
        return finished if self.retry_failed else finished | failed

    def _compute_or_wait(self, step: Step[Item], missing: Sequence[tuple[Item, str]]) -> dict[str, Record]:
        """Returns the records of items; those that another run works on are left to it."""
        records: dict[str, Record] = {}
        while missing:
            claimed = set(self.store.claim(key for _, key in missing))
            try:
                with self._lock:
                    # another run may have finished some since they were looked up
                    stored = self.store.get(claimed)
                    done = self._find_done(step, stored)
                    found = [(step.item_id(item), stored[key]) for item, key in missing if key in done]
                    self._note_failures(step, found)
                records |= {key: stored[key] for key in done}
                left = [(item, key) for item, key in missing if key in claimed - done]
                if left:
                    records |= self._compute(step, left)
            finally:
                self.store.release()
            missing = [(item, key) for item, key in missing if key not in records]
            if missing:
                log.info("%s: another run works on %d items; waiting for it", step.name, len(missing))
                self.store.wait(missing[0][1])
        return records

    def _compute(self, step: Step[Item], missing: Sequence[tuple[Item, str]]) -> dict[str, Record]:
        """Computes items; returns their records by key."""
        self.before_work()
        self.executor.load(step.backend)
        size = step.batch_size
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        computed = self.executor.map(StoringStep(step, self.store.images), batches)
        records: dict[str, Record] = {}
        start = time.perf_counter()
        with (
            show_progress(step.name, len(missing), self.forecast, self.executor.blocks == 1) as progress,
            ThreadPoolExecutor(1) as thread,  # finishes a batch while the next one is computed
        ):
            finished: Future[None] | None = None
            batch_start = time.perf_counter()
            for batch, results in zip(batches, computed, strict=True):
                seconds, before = time.perf_counter() - batch_start, finished
                finished = thread.submit(self._finish, step, batch, results, seconds, progress, records)
                if before:
                    before.result()  # its error is raised when this batch, too, is sure to be kept
                batch_start = time.perf_counter()
            if finished:
                finished.result()
        failed = sum(record.failed for record in records.values())
        elapsed = time.perf_counter() - start
        if len(records) > 1:  # one item, as that of a check, takes the time of imports and warm-up
            note_speed(self.store.folder, step, progress.seconds_each)
        log.log(
            self._level, "%s: %d in %.1f s, %s%s", step.name, len(records), elapsed,
            format_rate(len(records), elapsed), f", {failed} failed" if failed else "",
        )  # fmt: skip
        return records

    def _finish(
        self, step: Step[Item], batch: Sequence[tuple[Item, str]], results: Sequence[Any], seconds: float,
        progress: StepProgress, records: dict[str, Record],
    ) -> None:  # fmt: skip
        """Writes the images and records of a batch, adds the records to `records`, and shows the progress."""
        written = write_images(self.store.images, [key for _, key in batch], results)
        made: list[Record] = []
        for (item, key), result in zip(batch, written, strict=True):
            if isinstance(result, StepResult):
                measured = seconds / len(batch) if result.seconds is None else result.seconds
                made.append(Record(key, step.item_id(item), result.value, seconds=measured))
            else:
                made.append(_failed_record(key, step.item_id(item), result, seconds / len(batch)))
        with self._lock:
            self.store.put(step.name, made)
            records |= {record.key: record for record in made}
            progress.advance(len(batch), seconds)
            _log_failures(progress, step.name, made, written)
            self._note_failures(step, [(record.item, record) for record in made])
            self.after_batch(
                step, [(item, self.store.image(key)) for item, key in batch if not records[key].failed]
            )

    @property
    def _level(self) -> int:
        """Returns the level of messages about a step: with many blocks, those about blocks are enough."""
        return logging.INFO if self.executor.blocks == 1 else logging.DEBUG

    def _note_failures(self, step: Step[Item], records: Sequence[tuple[str, Record]]) -> None:
        """Adds failed records to the failures of the run; raises a UserError when there are too many.

        Each comes with the id of its item: the record may have been made for an equal item of another id.
        """
        for item_id, record in records:
            if record.failed:
                failure = {"step": step.name, "id": item_id, "message": record.message, "raw": record.raw}
                self.failures.append(failure)
        if len(self.failures) > self.max_failures:
            last = self.failures[-1]
            raise UserError(
                f"more items have failed ({len(self.failures)}) than max_failures={self.max_failures} "
                f"allows, the last in the step {last['step']}: "
                f"{last['id']}: {last['message']}. All are listed in failures.jsonl; finished work is kept. "
                "Remove the cause and try them again with retry_failed=true, "
                f"or allow more with max_failures={10 * self.max_failures or 10}"
            )

    def _log_nothing_to_do(self, step: Step[Item], records: Sequence[Record]) -> None:
        failed = sum(record.failed for record in records)
        hint = f", {failed} of them failed (retry_failed=true tries them again)" if failed else ""
        log.log(self._level, "%s: all %d are in the store%s", step.name, len(records), hint)


def _log_failures(
    progress: StepProgress, step: str, records: Sequence[Record], results: Sequence[Any]
) -> None:
    if not any(record.failed for record in records):
        return
    with progress.hidden():
        for record, result in zip(records, results, strict=True):
            if record.failed:
                # the message of an ItemError is enough; any other error may be a bug and needs its traceback
                trace = "" if isinstance(result, ItemError) else f"\n{_traceback(result)}"
                log.warning("%s: %s failed: %s%s", step, record.item, record.message, trace)


def _split_repeats(
    items: Sequence[tuple[Item, str]],
) -> tuple[list[tuple[Item, str]], list[tuple[Item, str]]]:
    """Returns items and their keys, each key once, and the others: equal items have equal results."""
    first: dict[str, tuple[Item, str]] = {}
    repeated = []
    for item, key in items:
        if key in first:
            repeated.append((item, key))
        else:
            first[key] = (item, key)
    return list(first.values()), repeated


def _traceback(error: Exception) -> str:
    """Returns the end of the traceback of an error, without what the log cannot hold."""
    return storable("".join(traceback.format_exception(error))[-MESSAGE_LENGTH:]).strip()


def _failed_record(key: str, item_id: str, error: Exception, seconds: float) -> Record:
    message = (
        str(error) if isinstance(error, ItemError) and str(error) else f"{type(error).__name__}: {error}"
    )
    raw = storable(str(getattr(error, "raw", "")))[:RAW_LIMIT]
    return Record(key, item_id, message=storable(shorten(message, MESSAGE_LENGTH)), raw=raw, seconds=seconds)
