"""The plots of the page, as SVG that takes its colours from the page's style."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from markupsafe import Markup

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
TICKS = 5  # at most: more do not fit a phone
SIDE, EDGE = 320, 44  # of the plot of the truth, and what its labels take of it


@dataclass(frozen=True)
class Scale:
    """An axis of shares: its ticks, the first and last of which are its ends."""

    ticks: Sequence[float]

    def at(self, value: float) -> float:
        """Returns where a value lies, from 0 to 1."""
        return (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])


def scale(rows: Iterable[Mapping[str, Any]], *keys: str, ticks: int = TICKS) -> Scale:
    """Returns an axis that holds 0 and what rows say under the keys."""
    values = [0.0, *(row[key] for row in rows for key in keys if row[key] is not None)]
    low, high = min(values), max(values)
    step = next((s for s in STEPS if ceil(high / s) - floor(low / s) < ticks), 1.0)
    first = floor(low / step)
    return Scale([step * i for i in range(first, max(ceil(high / step), first + 1) + 1)])


def axis(scale: Scale) -> Markup:
    """Returns the labelled ticks of an axis, in points."""
    labels = (f'<text x="{100 * scale.at(t):.2f}%" y="14" text-anchor="middle">{_label(t)}</text>' for t in scale.ticks)
    return Markup(f'<svg class="axis" width="100%" height="18" aria-hidden="true">{"".join(labels)}</svg>')  # numbers only


def forest(scale: Scale, row: Mapping[str, Any], told: bool) -> Markup:
    """Returns the line of a forest plot: a drop and its interval; the dot is filled where the drop can be told from chance."""

    def x(value: float) -> str:
        return f"{100 * scale.at(value):.2f}%"

    grid = "".join(f'<line class="{"zero" if t == 0 else "grid"}" x1="{x(t)}" x2="{x(t)}" y1="0" y2="100%"/>' for t in scale.ticks)
    interval = "" if row["low"] is None else f'<line class="interval" x1="{x(row["low"])}" x2="{x(row["high"])}" y1="50%" y2="50%"/>'
    dot = f'<circle class="{"dot" if told else "dot hollow"}" cx="{x(row["drop"])}" cy="50%" r="5"/>'
    return Markup(f'<svg class="forest" width="100%" height="34" aria-hidden="true">{grid}{interval}{dot}</svg>')


def against(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Returns the estimated drop of each edit over the true one, with the line on which they are equal."""
    known = [row for row in rows if row["estimated"] is not None and row["true"] is not None]
    both = scale(known, "estimated", "true", ticks=2 * TICKS)

    def x(value: float) -> str:
        return f"{EDGE + (SIDE - EDGE - 8) * both.at(value):.1f}"

    def y(value: float) -> str:
        return f"{SIDE - EDGE - (SIDE - EDGE - 8) * both.at(value):.1f}"

    low, high = both.ticks[0], both.ticks[-1]
    lines = [f'<line class="grid" x1="{x(low)}" x2="{x(high)}" y1="{y(t)}" y2="{y(t)}"/>' for t in both.ticks]
    lines += [f'<line class="grid" x1="{x(t)}" x2="{x(t)}" y1="{y(low)}" y2="{y(high)}"/>' for t in both.ticks]
    lines += [f'<line class="zero" x1="{x(low)}" y1="{y(low)}" x2="{x(high)}" y2="{y(high)}"/>']
    texts = [f'<text x="{x(t)}" y="{SIDE - EDGE + 16}" text-anchor="middle">{_label(t)}</text>' for t in both.ticks]
    texts += [f'<text x="{EDGE - 6}" y="{y(t)}" dy=".35em" text-anchor="end">{_label(t)}</text>' for t in both.ticks]
    texts += [f'<text x="{(EDGE + SIDE) / 2}" y="{SIDE - 8}" text-anchor="middle">true drop, points</text>']
    texts += [f'<text transform="translate(12 {(SIDE - EDGE) / 2}) rotate(-90)" text-anchor="middle">estimated drop, points</text>']
    dots = [
        Markup('<circle class="dot" cx="{}" cy="{}" r="4"><title>{}: {} → {}</title></circle>').format(
            x(row["true"]), y(row["estimated"]), row["attribute"], row["from"], row["to"]
        )
        for row in known
    ]
    label = f"Estimated over true drop of {len(known)} edits; the numbers are in the table below"
    return Markup(f'<svg class="against" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{label}">{"".join(lines + texts)}{Markup().join(dots)}</svg>')


def heat(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns for each two attributes their values (the longer list down, the shorter across) and the row of each two values.

    `heat` in a row is the size of its drop in percent of the largest one of all.
    """
    known = [row for row in rows if row["drop"] is not None]
    most = max((abs(row["drop"]) for row in known), default=0) or 1
    maps: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for row in known:
        maps.setdefault(tuple(row["attributes"]), {})[tuple(row["to"])] = {**row, "heat": 100 * abs(row["drop"]) / most}
    tables = []
    for (a, b), cells in maps.items():
        down, across = (list(dict.fromkeys(values)) for values in zip(*cells, strict=True))
        if len(down) < len(across):
            a, b, down, across, cells = b, a, across, down, {(y, x): row for (x, y), row in cells.items()}
        tables.append({"down": a, "across": b, "rows": sorted(down), "columns": sorted(across), "cells": cells})
    return tables


def _label(tick: float) -> str:
    return f"{round(100 * tick, 1) + 0:g}".replace("-", "\N{MINUS SIGN}")


def marks(scale: Scale, row: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Returns a line with a mark for each of several figures and its interval, one below the other; the page's style knows them by their names."""

    def x(value: float) -> str:
        return f"{100 * scale.at(value):.2f}%"

    drawn = [f'<line class="grid" x1="{x(t)}" x2="{x(t)}" y1="0" y2="100%"/>' for t in scale.ticks]
    for place, (name, figure) in enumerate(row.items()):
        y = 8 + 12 * place
        if figure["low"] is not None:
            drawn.append(f'<line class="mark {name}" x1="{x(figure["low"])}" x2="{x(figure["high"])}" y1="{y}" y2="{y}"/>')
        if figure["mean"] is not None:
            drawn.append(f'<svg x="{x(figure["mean"])}" y="{y}">{mark(name, place)}</svg>')
    return Markup(f'<svg class="marks" width="100%" height="{4 + 12 * len(row)}" aria-hidden="true">{"".join(drawn)}</svg>')


def mark(name: str, place: int) -> Markup:
    """Returns the mark of the figure in a place, around the origin: no two have the same shape."""
    shapes = ("M-5 0A5 5 0 1 1 5 0A5 5 0 1 1-5 0Z", "M-4.5-4.5H4.5V4.5H-4.5Z", "M0-6L5.5 4.5H-5.5Z", "M0-6.5L6.5 0L0 6.5L-6.5 0Z")
    return Markup('<path class="mark {}" d="{}"/>').format(name, shapes[place % len(shapes)])
