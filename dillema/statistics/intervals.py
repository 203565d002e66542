"""Intervals, p values and rates from sums of tallies, one sum for each independent unit."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from ..predictions import ROWS_PER_READ

LEVEL = 0.95
ENOUGH_GROUPS = 50  # effective groups: figures of fewer are called rough
ENOUGH_SEEDS = 5  # trainings: intervals over fewer are called rough
DRAWS = 2000
UNITS = 1000  # drawn at most
NUMBERS_PER_BLOCK = 1_000_000  # random numbers drawn at a time: they bound the memory
TALLIES_PER_BLOCK = 8_000_000  # drawn tallies in memory at a time

Figure = Callable[[np.ndarray], np.ndarray]
"""Takes sums of tallies (..., k) and returns figures (..., m); NaN where there is none."""


def to_number(figure: Any) -> float | None:
    """Returns a figure for JSON: None for NaN."""
    return None if np.isnan(figure) else float(figure)


def wilson_interval(share: float, n: float) -> tuple[float, float]:
    """Returns Wilson's score interval of a share observed in n independent answers."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    centre, half = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def over_seeds(values: Sequence[float], *, share: bool = False) -> dict[str, float | None]:
    """Returns the mean over several trainings and its interval (Student's).

    NaN becomes None; a single value has no interval. The interval of a `share` stays between 0 and 1.
    """
    from scipy.stats import t

    array, n = np.asarray(values, float), len(values)
    reach = t.ppf((1 + LEVEL) / 2, n - 1) * array.std(ddof=1) / sqrt(n) if n > 1 else np.nan
    low, high = array.mean() - reach, array.mean() + reach
    if share:
        low, high = np.clip([low, high], 0, 1)
    return {"mean": to_number(array.mean()), "low": to_number(low), "high": to_number(high)}


def rate(name: str, hits: np.ndarray, images: np.ndarray) -> dict[str, float | None]:
    """Returns the share of hits among images with its interval; both arguments are counts by group."""
    total, n = images.sum(), len(images)
    if not n:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    share = hits.sum() / total
    variance = ((hits - share * images) ** 2).sum() / total**2  # of the share, when groups are drawn
    effective = min(total, share * (1 - share) / variance) if variance > 0 else n
    low, high = wilson_interval(share, effective)
    return {name: float(share), f"{name}_low": low, f"{name}_high": high}


def means(values: Iterable[tuple[str, float]], seed: int) -> dict[str, Any]:
    """Returns the mean of values, each given with its group, and its interval; reads them once."""
    sums_by_group: dict[str, list[float]] = {}
    for group, value in values:
        sums = sums_by_group.setdefault(group, [0, 0])
        sums[0] += value
        sums[1] += 1
    if not sums_by_group:
        return {"images": 0, "mean": None, "low": None, "high": None}
    table = np.array([sums_by_group[group] for group in sorted(sums_by_group)])
    images = table[:, 1].sum()
    figures = {
        "images": int(images),
        "mean": to_number(table[:, 0].sum() / images),
        "low": None,
        "high": None,
    }
    if len(table) > 1:
        units = add_up(table, np.arange(len(table)), assign_units(len(table), seed))
        low, high = bootstrap_interval([units], lambda sums: sums[..., :1] / sums[..., 1:], seed)
        figures |= {"low": to_number(low[0]), "high": to_number(high[0])}
    return figures


def mcnemar(worse: int, better: int) -> float:
    """Returns the exact two-sided p of these counts of opposite changes (Psychometrika 12, 1947)."""
    from scipy.stats import binomtest

    return float(binomtest(worse, worse + better).pvalue) if worse + better else 1.0


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Returns p values adjusted for their number; None stays None and does not count."""
    from scipy.stats import false_discovery_control

    values = [value for value in p if value is not None]
    adjusted = iter(false_discovery_control(values).tolist() if values else [])
    return [None if value is None else next(adjusted) for value in p]


def bootstrap_interval(
    sums: Sequence[np.ndarray], figure: Callable[..., np.ndarray], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds (m,) of figure(*sums).

    `sums` hold the tallies of each unit (units, k), one matrix a side.
    """
    from scipy.stats import t

    random, n, figures = np.random.default_rng(seed), len(sums[0]), []
    for block in _blocks(n, max(part.shape[1] for part in sums)):
        chosen = random.integers(0, n, (block, n), np.int32) + np.arange(block)[:, None] * n
        times = np.bincount(chosen.ravel(), minlength=block * n).reshape(block, n).astype(float)
        figures.append(figure(*(times @ part for part in sums)))
    draws = np.concatenate(figures)
    bounds = np.full((2, draws.shape[1]), np.nan)
    defined = ~np.isnan(draws).all(0)
    # Student's t in place of the normal distribution, and the bias of the bootstrap's variance undone
    tail = NormalDist().cdf(-t.ppf((1 + LEVEL) / 2, n - 1) * sqrt(n / (n - 1)))
    bounds[:, defined] = np.nanquantile(draws[:, defined], [tail, 1 - tail], axis=0)
    return bounds[0], bounds[1]


def randomisation_test(first: np.ndarray, second: np.ndarray, figure: Figure, seed: int) -> np.ndarray:
    """Returns the p values (m,) of the difference of two sides (units, k); swaps the sides of whole units."""
    observed = np.abs(figure(first.sum(0)) - figure(second.sum(0)))
    total, difference = (first + second).sum(0), first - second
    random, extreme = np.random.default_rng(seed), np.zeros(observed.shape)
    for block in _blocks(len(first), first.shape[1]):
        swapped = (random.integers(0, 2, (block, len(first)), np.int8) - 0.5) @ difference
        random_difference = np.abs(figure(total / 2 + swapped) - figure(total / 2 - swapped))
        # equal sums may differ in rounding
        extreme += (random_difference >= observed - 1e-12).sum(0)
    return np.where(np.isnan(observed), np.nan, (1 + extreme) / (1 + DRAWS))


def assign_units(groups: int, seed: int) -> np.ndarray:
    """Returns the unit of each group: itself, or one of UNITS random sets of about as many groups."""
    if groups <= UNITS:
        return np.arange(groups)
    return np.random.default_rng(seed).permutation(np.arange(groups) % UNITS)


def add_up(tallies: np.ndarray, rows: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Returns the tallies of rows added up for each unit (units, k); `unit` has one entry a row."""
    sums = np.zeros((unit.max(initial=-1) + 1, tallies.shape[1]))
    order = np.argsort(unit, kind="stable")
    for i in range(0, len(rows), ROWS_PER_READ):
        block = order[i : i + ROWS_PER_READ]
        starts = np.flatnonzero(np.diff(unit[block], prepend=-1))
        sums[unit[block[starts]]] += np.add.reduceat(tallies[rows[block]], starts, axis=0, dtype=float)
    return sums


def _blocks(units: int, width: int = 1) -> Iterator[int]:
    """Yields the number of draws of each block."""
    most = min(NUMBERS_PER_BLOCK // units, TALLIES_PER_BLOCK // width)
    size = min(
        DRAWS, max(1, most // 4 * 4)
    )  # numpy draws bytes by four: the figures do not depend on the block
    for finished in range(0, DRAWS, size):
        yield min(size, DRAWS - finished)
