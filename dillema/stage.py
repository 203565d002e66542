"""What all stages share: look up what is done, compute the rest, keep it, and say so."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .errors import ItemError, UserError
from .execution import Work
from .execution.local import Local
from .store import Record, Store, digest, identity

log = logging.getLogger(__name__)

QUIET = 30  # seconds between two lines in a log that nobody watches


@dataclass(frozen=True)
class Item:
    """One piece of a stage's work: `inputs` (JSON) is what its result depends on besides the back-end, `payload` what the work takes."""

    id: str
    inputs: Any
    payload: Any


@dataclass
class Stages:
    """Runs stages over a store; gathers what failed and how long each took."""

    store: Store
    execution: Local
    failures: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, backend: Any, items: Sequence[Item], work: Work, *, batch_size: int = 1, images: bool = False) -> dict[str, Record]:
        """Returns the records of the items that are done, by item, in order; computes those that are not there yet.

        The work returns JSON values, or pairs of a value and an image when the stage makes `images`. Batches are cut by
        the place of an item in the whole list, and computed whole, so that a run that is resumed makes the same batches.
        Raises a UserError when more items of the run failed than `execution` allows.
        """
        start = time.perf_counter()
        known = identity(backend)
        pairs = [(item, digest(name, known, item.inputs)) for item in items]
        records = self.store.get(key for _, key in pairs)
        done = {key for key, record in records.items() if self._counts(record, images)}
        self._fail(name, [(item, records[key]) for item, key in pairs if key in done])
        batches = [pairs[i : i + batch_size] for i in range(0, len(pairs), batch_size)]
        batches = [batch for batch in batches if any(key not in done for _, key in batch)]
        if batches:
            self._compute(name, backend, batches, work, done, images)
            records = self.store.get(key for _, key in pairs)
        elif items:
            old = sum(record.failed for record in records.values())
            log.info("%s: all %d are there already%s", name, len(items), f", {old} as failed (execution.retry_failed=true tries again)" if old else "")
        self.seconds[name] = round(self.seconds.get(name, 0) + time.perf_counter() - start, 3)
        return {item.id: records[key] for item, key in pairs if not records[key].failed}

    def _counts(self, record: Record, images: bool) -> bool:
        """Returns whether a record needs no computing."""
        if record.failed:
            return not self.execution.retry_failed
        return not images or self.store.image(record.key).exists()

    def _compute(self, name: str, backend: Any, batches: list[list[tuple[Item, str]]], work: Work, done: set[str], images: bool) -> None:
        self.execution.load(backend)
        total, kept, failed = sum(key not in done for batch in batches for _, key in batch), 0, len(self.failures)
        start = spoken = time.perf_counter()
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(name, total=total, rate="")
            for batch, results in zip(batches, self.execution.map(work, backend, [[item.payload for item, _ in b] for b in batches]), strict=True):
                fresh = [(item, key, result) for (item, key), result in zip(batch, results, strict=True) if key not in done]
                made = [(item, _record(item, key, result, images)) for item, key, result in fresh]
                pictures = {key: result[1] for _, key, result in fresh if images and not isinstance(result, Exception)}
                self.store.put(name, [record for _, record in made], pictures)
                if any(record.failed for _, record in made):
                    progress.stop()  # a line of the log does not mix with a bar
                    for item, _, result in fresh:
                        if isinstance(result, Exception):
                            log.warning("%s: %s failed: %s", name, item.id, _message(result), exc_info=None if isinstance(result, ItemError) else result)
                    progress.start()
                self._fail(name, made)
                kept += len(made)
                now = time.perf_counter()
                rate = f"{kept / (now - start):.1f}/s"
                progress.update(bar, advance=len(made), rate=rate)
                if not console.is_terminal and now - spoken > QUIET:
                    log.info("%s: %d of %d, %s", name, kept, total, rate)
                    spoken = now
        lost = f", {len(self.failures) - failed} failed" if len(self.failures) > failed else ""
        again = f", {len(done)} were there already" if done else ""
        log.info("%s: %d in %.1f s, %s%s%s", name, kept, time.perf_counter() - start, rate, lost, again)

    def _fail(self, name: str, made: Sequence[tuple[Item, Record]]) -> None:
        self.failures += [{"stage": name, "id": item.id, "message": r.message, "raw": r.raw} for item, r in made if r.failed]
        if len(self.failures) > self.execution.max_failures:
            raise UserError(
                f"{len(self.failures)} items have failed, the last in the stage {name}: {self.failures[-1]['id']}: {self.failures[-1]['message']}. "
                f"All are listed in failures.jsonl; finished work is kept. Mend the cause and try them again with execution.retry_failed=true, "
                f"or let more fail with execution.max_failures={10 * self.execution.max_failures or 10}"
            )


def _record(item: Item, key: str, result: Any, images: bool) -> Record:
    if isinstance(result, Exception):
        return Record(key, item.id, message=_message(result), raw=getattr(result, "raw", ""))
    return Record(key, item.id, result[0] if images else result)


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, ItemError) and str(error) else f"{type(error).__name__}: {error}"
