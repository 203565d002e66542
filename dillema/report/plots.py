"""The plots of the pages, as SVG that takes its colours from the page's style."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from markupsafe import Markup

TICK_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
MAX_TICKS = 5  # more do not fit a phone
SCATTER_SIDE, SCATTER_MARGIN = 320, 44  # of the square, and what its labels take of it
MARK_SHAPES = (
    "M-5 0A5 5 0 1 1 5 0A5 5 0 1 1-5 0Z",
    "M-4.5-4.5H4.5V4.5H-4.5Z",
    "M0-6L5.5 4.5H-5.5Z",
    "M0-6.5L6.5 0L0 6.5L-6.5 0Z",
)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Scale:
    """An axis of shares: its ticks, the first and last of which are its ends."""

    ticks: Sequence[float]

    def position(self, value: float) -> float:
        """Returns where a value lies, from 0 to 1."""
        return (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])

    def percent(self, value: float) -> str:
        """Returns where a value lies, in percent of the width."""
        return f"{100 * self.position(value):.2f}%"


def scale(rows: Iterable[Row], *keys: str, ticks: int = MAX_TICKS) -> Scale:
    """Returns an axis that includes 0 and the values of rows under the keys."""
    values = [0.0, *(row[key] for row in rows for key in keys if row[key] is not None)]
    low, high = min(values), max(values)
    step = next((s for s in TICK_STEPS if ceil(high / s) - floor(low / s) < ticks), 1.0)
    first = floor(low / step)
    last = max(ceil(high / step), first + 1)
    return Scale([step * i for i in range(first, last + 1)])


def axis(scale: Scale) -> Markup:
    """Returns the labelled ticks of an axis, in points."""
    labels = "".join(
        f'<text x="{scale.percent(tick)}" y="14" text-anchor="middle">{_label(tick)}</text>'
        for tick in scale.ticks
    )
    return Markup(
        f'<svg class="axis" width="100%" height="18" aria-hidden="true">{labels}</svg>'
    )  # numbers only


def forest(scale: Scale, row: Row, filled: bool | None) -> Markup:
    """Returns the line of a forest plot: a drop with its interval, as a filled or a hollow dot."""
    svg = _grid(scale)
    if row["low"] is not None:
        svg += _horizontal("interval", scale, row, "50%")
    dot = "dot" if filled else "dot hollow"
    svg += f'<circle class="{dot}" cx="{scale.percent(row["drop"])}" cy="50%" r="5"/>'
    return Markup(f'<svg class="forest" width="100%" height="34" aria-hidden="true">{svg}</svg>')


def marks(scale: Scale, row: Mapping[str, Row]) -> Markup:
    """Returns a line with a mark for each of several figures and its interval, one below the other.

    The page's style knows the figures by their names.
    """
    svg = _grid(scale)
    for index, (name, figure) in enumerate(row.items()):
        y = 8 + 12 * index
        if figure["low"] is not None:
            svg += _horizontal(f"mark {name}", scale, figure, str(y))
        if figure["mean"] is not None:
            svg += f'<svg x="{scale.percent(figure["mean"])}" y="{y}">{mark(name, index)}</svg>'
    height = 4 + 12 * len(row)
    return Markup(f'<svg class="marks" width="100%" height="{height}" aria-hidden="true">{svg}</svg>')


def mark(name: str, index: int) -> Markup:
    """Returns the mark of a figure, around the origin: no two numbers have the same shape."""
    return Markup('<path class="mark {}" d="{}"/>').format(name, MARK_SHAPES[index % len(MARK_SHAPES)])


def scatter(rows: Sequence[Row], known: str = "true") -> Markup:
    """Returns the estimated drop of each row over the `known` one, with the line on which they are equal."""
    shown = [row for row in rows if row["estimated"] is not None and row[known] is not None]
    both = scale(shown, "estimated", known, ticks=2 * MAX_TICKS)
    inside = SCATTER_SIDE - SCATTER_MARGIN - 8

    def x(value: float) -> str:
        return f"{SCATTER_MARGIN + inside * both.position(value):.1f}"

    def y(value: float) -> str:
        return f"{SCATTER_SIDE - SCATTER_MARGIN - inside * both.position(value):.1f}"

    low, high = both.ticks[0], both.ticks[-1]
    bottom, middle = SCATTER_SIDE - SCATTER_MARGIN, (SCATTER_SIDE - SCATTER_MARGIN) / 2
    svg = ""
    for tick in both.ticks:
        svg += f'<line class="grid" x1="{x(low)}" x2="{x(high)}" y1="{y(tick)}" y2="{y(tick)}"/>'
        svg += f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{y(low)}" y2="{y(high)}"/>'
        svg += f'<text x="{x(tick)}" y="{bottom + 16}" text-anchor="middle">{_label(tick)}</text>'
        svg += (
            f'<text x="{SCATTER_MARGIN - 6}" y="{y(tick)}" dy=".35em" text-anchor="end">{_label(tick)}</text>'
        )
    svg += f'<line class="zero" x1="{x(low)}" y1="{y(low)}" x2="{x(high)}" y2="{y(high)}"/>'
    centre = (SCATTER_MARGIN + SCATTER_SIDE) / 2
    svg += f'<text x="{centre}" y="{SCATTER_SIDE - 8}" text-anchor="middle">{known} drop, points</text>'
    turned = f'transform="translate(12 {middle}) rotate(-90)" text-anchor="middle"'
    svg += f"<text {turned}>estimated drop, points</text>"
    dot = Markup('<circle class="dot" cx="{}" cy="{}" r="4"><title>{}</title></circle>')
    dots = Markup().join(dot.format(x(row[known]), y(row["estimated"]), _name(row)) for row in shown)
    label = f"Estimated over {known} drop of {len(shown)} rows; the numbers are in the table below"
    box = f'viewBox="0 0 {SCATTER_SIDE} {SCATTER_SIDE}" role="img" aria-label="{label}"'
    return Markup(f'<svg class="scatter" {box}>{svg}{dots}</svg>')


def _name(row: Row) -> str:
    """Returns the edit or the condition of a row."""
    if "condition" in row:
        return " ".join(row["condition"].values())
    return f"{row['attribute']}: {row['from']} → {row['to']}"


def heat_maps(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Returns for each two attributes their values and the row of each two values.

    The longer list of values goes down, the shorter one across.
    `heat` in a row is the size of its drop in percent of the largest one of all.
    """
    shown = [row for row in rows if row["drop"] is not None]
    largest = max((abs(row["drop"]) for row in shown), default=0) or 1
    cells_by_attributes: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for row in shown:
        first, second = row["attributes"]
        cells = cells_by_attributes.setdefault((first, second), {})
        cells[row["to"][0], row["to"][1]] = {**row, "heat": 100 * abs(row["drop"]) / largest}
    tables = []
    for (down, across), cells in cells_by_attributes.items():
        values_down, values_across = (sorted(set(values)) for values in zip(*cells, strict=True))
        if len(values_down) < len(values_across):
            down, across, values_down, values_across = across, down, values_across, values_down
            cells = {(y, x): row for (x, y), row in cells.items()}
        tables.append(
            {"down": down, "across": across, "rows": values_down, "columns": values_across, "cells": cells}
        )
    return tables


def _grid(scale: Scale) -> str:
    return "".join(
        f'<line class="{"zero" if tick == 0 else "grid"}" '
        f'x1="{scale.percent(tick)}" x2="{scale.percent(tick)}" y1="0" y2="100%"/>'
        for tick in scale.ticks
    )


def _horizontal(name: str, scale: Scale, row: Row, y: str) -> str:
    """Returns the line of an interval."""
    ends = f'x1="{scale.percent(row["low"])}" x2="{scale.percent(row["high"])}"'
    return f'<line class="{name}" {ends} y1="{y}" y2="{y}"/>'


def _label(tick: float) -> str:
    return f"{round(100 * tick, 1) + 0:g}".replace("-", "\N{MINUS SIGN}")
