"""Shows how far a run is: a line for all steps with the time left, and a line for the step at work."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOG_LINES = 30  # where there is no terminal for a progress bar
TYPICAL_SECONDS = {
    "source": 0.02, "caption": 0.2, "keywords": 0.3, "rewrite": 0.2, "control": 0.05, "generate": 0.5,
    "gate": 0.05, "similarity": 0.01, "networks": 0.1, "predict": 0.05,
}  # fmt: skip
"""Rough times of an item of the small models, for steps that have never run."""


class Forecast:
    """Estimates how long the steps of a run will still take.

    The time of an item of a step is that in this run, else that in earlier runs, else a typical one, scaled
    to what the other steps took. The first batch, which waits for imports and warm-up, tells the time only as
    long as there is no other.
    """

    def __init__(
        self, steps: Sequence[tuple[str, float]], sources: int, usual_seconds: Mapping[str, float]
    ) -> None:
        """Begins with a run's steps in their order, each with its items a source.

        `usual_seconds` has what an item of a step took in earlier runs, by the name of the step.
        """
        self.steps = list(steps)
        self._usual_seconds = usual_seconds
        self._sources_left = sources  # of later blocks
        self._block = 0
        self._position = -1
        self._items_left = 0
        self._measured: dict[str, tuple[int, float]] = {}
        self._first: dict[str, tuple[int, float]] = {}
        self._start = time.perf_counter()

    def begin(self, step: str, items: int, finished: int) -> None:
        """Notes that a step begins with items of which some are finished already."""
        if step == self.steps[0][0]:  # a new block
            self._block, self._position = items, -1
            self._sources_left = max(self._sources_left - items, 0)
        later = range(self._position + 1, len(self.steps))
        self._position = next((i for i in later if self.steps[i][0] == step), self._position)
        self._items_left = items - finished

    def advance(self, items: int, seconds: float) -> None:
        """Notes that items of the step at work were computed in some seconds."""
        self._items_left -= items
        step = self.steps[max(self._position, 0)][0]
        if step not in self._first:
            self._first[step] = items, seconds
            return
        count, total = self._measured.get(step, (0, 0.0))
        self._measured[step] = count + items, total + seconds

    @property
    def seconds_left(self) -> float:
        """Returns how many seconds the rest of the run will take."""
        per_source = [items * self._seconds_of_item(step) for step, items in self.steps]
        at_work = self._seconds_of_item(self.steps[max(self._position, 0)][0]) * self._items_left
        in_block = self._block * sum(per_source[self._position + 1 :])
        return at_work + in_block + self._sources_left * sum(per_source)

    @property
    def share(self) -> float:
        """Returns the share of the run's time that is over (0 to 1)."""
        elapsed = time.perf_counter() - self._start
        return elapsed / (elapsed + self.seconds_left) if elapsed else 0.0

    def __str__(self) -> str:
        """Returns the share and the time left in words."""
        return f"{100 * self.share:.0f} %, {format_time_left(self.seconds_left)}"

    def _seconds_of_item(self, step: str) -> float:
        if step in self._first:
            items, seconds = self._measured.get(step, self._first[step])
            return seconds / items
        return self._usual_seconds.get(step, self._scale * typical_seconds(step))

    @property
    def _scale(self) -> float:
        """Returns how much longer than typical the measured steps took."""
        measured = self._measured or self._first
        typical = sum(items * typical_seconds(step) for step, (items, _) in measured.items())
        return sum(seconds for _, seconds in measured.values()) / typical if typical else 1.0


class StepProgress:
    """A progress bar in a terminal; elsewhere a line in the log from time to time."""

    def __init__(self, step: str, total: int, bar: Progress, forecast: Forecast | None) -> None:
        self.step, self.total, self.bar, self.forecast = step, total, bar, forecast
        self.done = 0
        self.first = 0, 0.0  # items and seconds of the first batch
        self.seconds = 0.0
        self.start = self.logged = time.perf_counter()
        self.all_steps = bar.add_task("all steps", total=1.0, count="", note="") if forecast else None
        self.task = bar.add_task(step, total=total, count=f"0/{total}", note="")
        self._show()

    def advance(self, items: int, seconds: float) -> None:
        """Shows that more items are done, which took some seconds."""
        self.first = self.first if self.done else (items, seconds)
        self.done += items
        self.seconds += seconds
        if self.forecast:
            self.forecast.advance(items, seconds)
        self._show()

    @property
    def seconds_each(self) -> float:
        """Returns the seconds of an item, without the first batch if there is another."""
        items, seconds = self.first if self.done > self.first[0] else (0, 0.0)
        return (self.seconds - seconds) / (self.done - items)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hides the bar while lines are logged, which it would be mixed with."""
        self.bar.stop()
        yield
        self.bar.start()

    def _show(self) -> None:
        now = time.perf_counter()
        if not self.bar.disable:
            rate = self._format_rate(now)
            self.bar.update(self.task, completed=self.done, count=f"{self.done}/{self.total}", note=rate)
            if self.forecast and self.all_steps is not None:
                count, _, note = str(self.forecast).partition(", ")
                self.bar.update(self.all_steps, completed=self.forecast.share, count=count, note=note)
        elif now - self.logged > SECONDS_BETWEEN_LOG_LINES:
            overall = f"; all steps: {self.forecast}" if self.forecast else ""
            log.info("%s: %d of %d, %s%s", self.step, self.done, self.total, self._format_rate(now), overall)
            self.logged = now

    def _format_rate(self, now: float) -> str:
        return format_rate(self.done, now - self.start) if self.done else ""


@contextmanager
def show_progress(
    step: str, total: int, forecast: Forecast | None, is_alone: bool = True
) -> Iterator[StepProgress]:
    """Shows the progress of a step while it works on its items; in the log unless it works alone."""
    console = Console(stderr=True)
    texts = [TextColumn(f"{{task.fields[{name}]}}") for name in ("count", "note")]
    columns = (TextColumn("{task.description}"), BarColumn(), *texts)
    with Progress(
        *columns, console=console, transient=True, disable=not (is_alone and console.is_terminal)
    ) as bar:
        yield StepProgress(step, total, bar, forecast)


def format_rate(items: int, seconds: float) -> str:
    """Returns a speed: "12.5/s", or "2.5 s each"."""
    return f"{items / seconds:.1f}/s" if seconds < items else f"{seconds / items:.1f} s each"


def format_time_left(seconds: float) -> str:
    """Returns a rough time: "about 40 s left", "about 12 min left", "about 3 h left"."""
    if seconds < 100:
        return f"about {max(round(seconds), 1)} s left"
    if seconds < 100 * 60:
        return f"about {seconds / 60:.0f} min left"
    return f"about {seconds / 3600:.0f} h left"


def typical_seconds(step: str) -> float:
    """Returns the rough time of an item of a step."""
    return TYPICAL_SECONDS.get(step, TYPICAL_SECONDS.get(step.partition(" ")[0], 0.1))
