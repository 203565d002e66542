"""The page about thresholds that were learnt from raters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..files import write_atomically
from .page import environment

WIDTH, HEIGHT, LEFT, BOTTOM = 440, 240, 40, 40  # of a plot, and the room of its labels
TICKS = 4


def write_calibration(path: Path, results: Mapping[str, Any]) -> None:
    """Writes the page."""
    rows = [*results["scores"], results["combination"]]
    page = environment().get_template("calibration.html.j2")
    text = page.render(results=results, rows=rows, plot=plot, format_interval=format_interval)
    write_atomically(path, text)


def format_interval(figure: Mapping[str, float | None], factor: float, digits: int) -> str:
    """Returns a figure with its interval; a bound that is missing is open."""
    if figure["mean"] is None:
        return "-"
    values = [figure[name] for name in ("mean", "low", "high")]
    mean, low, high = (None if value is None else f"{factor * value:.{digits}f}" for value in values)
    bounds = f"{low or 'no lower bound'} to {high}" if high else f"{low} or more"
    return f"{mean} ({bounds})"


def plot(row: Mapping[str, Any], wanted: float) -> Markup:
    """Returns precision and recall along the threshold of a score, with the shares of good judged images."""
    curve, points = row["curve"], row["points"]
    values = [point["threshold"] for point in curve] + [point["value"] for point in points]
    low, high = min(values), max(max(values), min(values) + 1e-9)

    def x(value: float) -> str:
        share = min(max((value - low) / (high - low), 0), 1)
        return f"{LEFT + share * (WIDTH - LEFT - 10):.1f}"

    def y(share: float) -> str:
        return f"{10 + (1 - share) * (HEIGHT - BOTTOM - 10):.1f}"

    svg = ""
    for tick in range(TICKS + 1):
        share, value = tick / TICKS, low + tick / TICKS * (high - low)
        svg += f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(share)}" y2="{y(share)}"/>'
        svg += f'<text x="{LEFT - 6}" y="{y(share)}" dy=".35em" text-anchor="end">{100 * share:.0f}</text>'
        svg += f'<text x="{x(value)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:.2f}</text>'
    svg += f'<line class="zero" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(wanted)}" y2="{y(wanted)}"/>'
    if row["threshold"] is not None:
        first, last = row["low"], row["high"]
        left, right = x(low if first is None else first), x(high if last is None else last)
        width = f"{float(right) - float(left):.1f}"
        svg += f'<rect class="between" x="{left}" width="{width}" y="10" height="{HEIGHT - BOTTOM - 10}"/>'
        at = x(row["threshold"])
        svg += f'<line class="at" x1="{at}" x2="{at}" y1="10" y2="{HEIGHT - BOTTOM}"/>'
    svg += _band(curve, x, y)
    for name in ("precision", "recall"):
        line = " ".join(f"{x(point['threshold'])},{y(point[name] or 0)}" for point in curve)
        svg += f'<polyline class="{name}" points="{line}"/>'
    for point in points:
        at = x(point["value"])
        svg += f'<line class="whisker" x1="{at}" x2="{at}" y1="{y(point["low"])}" y2="{y(point["high"])}"/>'
        svg += f'<circle class="judged" cx="{at}" cy="{y(point["good"])}" r="4"/>'
    # the name of a score is text of a gate: formatted into Markup, it is escaped
    label = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
        (LEFT + WIDTH) / 2, HEIGHT - 4, row["score"]
    )
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Precision and recall in percent"'
    return Markup(f'<svg class="curve" {box}>{svg}') + label + Markup("</svg>")


def _band(curve: Sequence[Mapping[str, Any]], x: Any, y: Any) -> str:
    """Returns the interval of the precision as an area."""
    there = [point for point in curve if point["low"] is not None]
    corners = [(point["threshold"], point["low"]) for point in there]
    corners += [(point["threshold"], point["high"]) for point in reversed(there)]
    line = " ".join(f"{x(value)},{y(share)}" for value, share in corners)
    return f'<polygon class="band" points="{line}"/>'
