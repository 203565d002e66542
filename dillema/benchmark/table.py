"""Writes what was measured: benchmark.json, and benchmark.md with ratios."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from ..files import write_atomically
from .measuring import StageFigures

EXPLANATION = """\
Ratios are medians over {rounds} rounds, with the lowest and the highest; above 1, ours is faster. In a round
all ways follow one another. Ours: records and images written to a store, the back-end loaded. Naive: one item
at a time, everything loaded again for it; three requests in free text a caption (two for `keywords`, one for
`rewrite`). Bare: a loop of the library on inputs in memory, in its best batch; none where the class has none
here. Neither of them writes anything, so that a stage without a network is slower than the naive way; a batch
of the bare loop may be larger than the items measured (`job.items`), which favours it. Limit: the share of
our time that its matrix products (and the weights that each token of a language model reads) take at the
rates that the machine reaches with nothing else. All stages: weighted by the items of a source, over the
stages that have a figure. Programs that run beside the measurement widen the spread.
"""
DIGITS = 4  # of a time


def write_results(folder: Path, machine: dict[str, Any], stages: Sequence[StageFigures], rounds: int) -> None:
    """Writes both files; an interrupted measurement leaves those of the stages that are done."""
    content = {
        "machine": machine,
        "rounds": rounds,
        "stages": [{name: _round(value) for name, value in asdict(stage).items()} for stage in stages],
        "all_stages": {way: _round(_total_ratios(stages, way)) for way in ("naive", "bare")},
    }
    write_atomically(folder / "benchmark.json", json.dumps(content, indent=2) + "\n")
    write_atomically(folder / "benchmark.md", _format(machine, stages, rounds))


def _round(value: Any) -> Any:
    return [float(f"{number:.{DIGITS}g}") for number in value] if isinstance(value, list) else value


def _format(machine: dict[str, Any], stages: Sequence[StageFigures], rounds: int) -> str:
    lines = [
        "| stage | items a source | ours, s an item | naive / ours | bare / ours (its batch) | limit |",
        "|---|---|---|---|---|---|",
        *[_format_row(stage) for stage in stages],
    ]
    totals = [_spread(_total_ratios(stages, way)) for way in ("naive", "bare")]
    lines.append(f"| all stages | | | {totals[0]} | {totals[1]} | |")
    errors = [f"- {stage.stage}: {stage.error}" for stage in stages if stage.error]
    notes = ["", "Not measured to the end:", "", *errors] if errors else []
    parts = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    text = EXPLANATION.format(rounds=rounds)
    return "\n".join([*lines, *notes, "", text, f"Measured on: {parts}.", ""])


def _format_row(stage: StageFigures) -> str:
    seconds = f"{median(stage.ours):.3g}" if stage.ours else "-"
    bare = _spread(_ratios(stage.bare, stage.ours))
    batch = f" ({stage.bare_batch})" if stage.bare else ""
    limit = _spread([100 * ratio for ratio in _ratios(stage.limit, stage.ours)], " %")
    naive = _spread(_ratios(stage.naive, stage.ours))
    return f"| {stage.stage} | {stage.per_source:g} | {seconds} | {naive} | {bare}{batch} | {limit} |"


def _ratios(seconds: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Returns the ratio of each round that was finished."""
    return [other / own for other, own in zip(seconds, ours, strict=False)]


def _total_ratios(stages: Sequence[StageFigures], way: str) -> list[float]:
    """Returns, for each round, the time of all stages in one way over that in ours."""
    complete = [stage for stage in stages if not stage.error and getattr(stage, way)]
    rounds = range(min((len(getattr(stage, way)) for stage in complete), default=0))
    return [
        sum(stage.per_source * getattr(stage, way)[i] for stage in complete)
        / sum(stage.per_source * stage.ours[i] for stage in complete)
        for i in rounds
    ]


def _spread(values: Sequence[float], unit: str = "") -> str:
    """Returns the median of values with the lowest and the highest."""
    if not values:
        return "-"
    return f"{median(values):.3g}{unit} ({min(values):.3g} to {max(values):.3g})"
