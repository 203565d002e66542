"""The job that checks a finished run against acceptance criteria, for a pipeline of tests."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..context import JobContext
from ..errors import UserError
from ..fields import NotNegative, Share
from ..files import write_atomically
from ..report import words
from ..run_folder import RunFolder, is_checked
from .report import check_inputs, open_run

__all__ = ["accept", "check_inputs"]

log = logging.getLogger(__name__)

ACCEPTANCE = "acceptance.json"  # in the folder of the job
HOLDS, FAILS, NOT_SHOWN = "holds", "fails", "not shown"
INCLUDED, BEYOND = "generator included", "beyond the generator alone"


@dataclass(frozen=True)
class Criterion:
    """A criterion, and whether a run shows that it holds.

    Attributes:
        model: The model under test; "" for a criterion of the run.
        name: What is limited.
        limit: The limit, as in the settings.
        condition: The limit in words, as in "at most 20.0"; drops are in points.
        measured: What was measured, in the same unit.
        verdict: `HOLDS`, `FAILS`, or `NOT_SHOWN` where the images do not suffice to decide.
    """

    model: str
    name: str
    limit: float
    condition: str
    measured: str
    verdict: str


def accept(
    context: JobContext,
    min_valid: Share | None = None,
    max_drop: Share | None = None,
    max_drops: dict[str, Any] | None = None,
    max_edit_drops: dict[str, Any] | None = None,
    max_placebo_drop: Share | None = None,
    max_harmful: NotNegative | None = None,
) -> dict[str, Any]:
    """Checks each criterion that is set for every model of a run; writes and returns the verdicts.

    A drop is within its limit only where its whole interval is; where the limit lies in the interval, or
    there are too few sources, the criterion is not shown. Needs no data, models or store.

    Args:
        context: `run` names the run folder.
        min_valid: Share of the generated images that must count.
        max_drop: Largest drop over all images that count, generator included.
        max_drops: Largest drops of single values, generator included, as in {weather: {foggy: 0.2}}.
        max_edit_drops: The same of the drops beyond the generator alone, from placebo to counterfactual.
        max_placebo_drop: Largest drop that the generator alone may cause.
        max_harmful: How many values may be harmful beyond what the generator alone does.

    Raises a UserError, so that the command ends with exit code 1, unless all criteria hold.
    """
    folder = open_run(context)
    criteria = [*_check_valid(folder, min_valid)]
    for model, figures in folder.results["models"].items():
        criteria += _check_drops(model, figures, max_drop, max_placebo_drop)
        criteria += _check_values(model, figures, "max_drops", max_drops or {})
        criteria += _check_values(model, figures, "max_edit_drops", max_edit_drops or {})
        criteria += _check_harmful(model, figures, max_harmful)
    if not criteria:
        raise UserError(
            "job=accept has nothing to check: set a criterion, as in job.max_drop=0.1 or job.max_harmful=0, "
            f"for a run with a model; {folder.path} has {len(folder.results['models'])}"
        )
    results = {"run": str(folder.path), "criteria": [asdict(criterion) for criterion in criteria]}
    write_atomically(context.folder / ACCEPTANCE, json.dumps(results, indent=2))
    _show(criteria)
    log.info("Verdicts: %s", context.folder / ACCEPTANCE)
    counts = Counter(criterion.verdict for criterion in criteria)
    if counts[HOLDS] < len(criteria):
        parts = [f"{counts[verdict]} {verdict}" for verdict in (HOLDS, FAILS, NOT_SHOWN) if counts[verdict]]
        raise UserError(f"Not all criteria hold: {', '.join(parts)}. The table and {ACCEPTANCE} name them")
    return results


def _check_valid(folder: RunFolder, limit: float | None) -> Iterator[Criterion]:
    if limit is None:
        return
    counts = folder.results["counts"]
    generated, valid = counts["generated"], counts["valid"]
    measured = f"{words.percent(valid / generated)}, {valid} of {generated}" if generated else ""
    verdict = HOLDS if valid >= limit * generated else FAILS
    if not is_checked(folder.results) or not generated:
        measured, verdict = "no gate checked an image", NOT_SHOWN
    yield Criterion("", "valid images", limit, f"at least {words.percent(limit)}", measured, verdict)


def _check_drops(
    model: str, figures: Mapping[str, Any], limit: float | None, placebo_limit: float | None
) -> Iterator[Criterion]:
    if limit is not None:
        yield _check_drop(model, f"drop, {INCLUDED}", figures, limit)
    if placebo_limit is not None:
        yield _check_drop(model, "drop by the generator alone", figures.get("placebo"), placebo_limit)


def _check_values(
    model: str, figures: Mapping[str, Any], setting: str, limits_by_attribute: Mapping[str, Any]
) -> Iterator[Criterion]:
    """Yields whether the drops of single values, or their parts beyond the generator, are within limits."""
    prefix, part = ("edit_", BEYOND) if setting == "max_edit_drops" else ("", INCLUDED)
    rows = {(row["attribute"], row["to"]): row for row in figures.get("per_value") or ()}
    for attribute, limits in limits_by_attribute.items():
        numbers = limits.values() if isinstance(limits, Mapping) else [None]
        if not all(isinstance(number, int | float) and 0 <= number <= 1 for number in numbers):
            raise UserError(
                f"job.{setting}.{attribute}: give its values with a number from 0 to 1 each, "
                f"as in job.{setting}={{weather: {{foggy: 0.2}}}}"
            )
        for value, limit in limits.items():
            row = rows.get((attribute, value), {})
            drop = dict(row) | {name: row.get(f"{prefix}{name}") for name in ("drop", "low", "high")}
            yield _check_drop(model, f"drop with {attribute} → {value}, {part}", drop, limit)


def _check_drop(model: str, name: str, row: Mapping[str, Any] | None, limit: float) -> Criterion:
    """Returns whether the interval of a drop lies below a limit, above it, or on both sides."""
    condition = f"at most {words.points(limit)}"
    if not row or row["drop"] is None:
        return Criterion(model, name, limit, condition, "not tested", NOT_SHOWN)
    if words.is_too_few(row) or row["low"] is None or row["high"] is None:
        return Criterion(model, name, limit, condition, words.too_few(row), NOT_SHOWN)
    verdict = HOLDS if row["high"] <= limit else FAILS if row["low"] > limit else NOT_SHOWN
    measured = f"{words.points(row['drop'])} ({words.interval(row)})"
    return Criterion(model, name, limit, condition, measured, verdict)


def _check_harmful(model: str, figures: Mapping[str, Any], limit: int | None) -> Iterator[Criterion]:
    """Yields whether at most `limit` values are harmful; values that were not decided may be."""
    if limit is None:
        return
    rows = figures.get("per_value") or []
    harmful = [row["to"] for row in rows if row["harmful"]]
    undecided = [row["to"] for row in rows if row["harmful"] is None or words.is_too_few(row)]
    most = len({*harmful, *undecided})
    verdict = FAILS if len(harmful) > limit else HOLDS if rows and most <= limit else NOT_SHOWN
    measured = f"{len(harmful)} harmful" + (f": {words.join_names(harmful)}" if harmful else "")
    measured += f"; not decided: {words.join_names(undecided)}" if undecided else ""
    measured = measured if rows else "not tested"
    yield Criterion(model, "harmful values", limit, f"at most {limit}", measured, verdict)


def _show(criteria: list[Criterion]) -> None:
    """Shows the verdicts in the terminal."""
    table = Table(
        "criterion", "limit", "measured, drops in points", "verdict", box=SIMPLE, padding=(0, 1, 0, 0)
    )
    for criterion in criteria:
        name = f"{criterion.model}: {criterion.name}" if criterion.model else criterion.name
        table.add_row(*map(Text, (name, criterion.condition, criterion.measured, criterion.verdict)))
    Console().print(table)
