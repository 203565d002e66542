"""A line of the benchmark's table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """What was measured, and the bar that it must reach.

    Attributes:
        name: What is measured.
        method: How.
        measured: The result in words.
        bar: What the result must be.
        met: Whether it is; None where there is no bar.
        figures: The result in numbers.
    """

    name: str
    method: str
    measured: str
    bar: str
    met: bool | None
    figures: dict[str, Any]


def format_rates(rates: Mapping[str, float]) -> str:
    """Returns rates of 0 to 1 as percentages, each with its name."""
    return ", ".join(f"{name} {100 * rate:.0f} %" for name, rate in rates.items())
