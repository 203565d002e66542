"""Intervals, p values and rates from sums of tallies, one sum for each independent unit."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from ..predictions import ROWS_PER_READ

LEVEL = 0.95
ENOUGH_GROUPS = 50  # effective groups: figures of fewer are called rough
MIN_GROUPS = 6  # of fewer, no test over groups can show a change: its p is 2 / 2^5 = 0.06 at best
ENOUGH_SEEDS = 5  # trainings: intervals over fewer are called rough
DRAWS = 2000
MOST_DRAWS = 0.5  # share of the draws that must have a figure
ROUNDING = 1e-6  # a smaller effect counts as zero
UNITS = 1000  # drawn at most
NUMBERS_PER_BLOCK = 250_000  # random numbers drawn at a time: they bound the memory
TALLIES_PER_BLOCK = 2_000_000  # drawn tallies in memory at a time

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
    from scipy.special import stdtrit

    array, n = np.asarray(values, float), len(values)
    reach = stdtrit(n - 1, (1 + LEVEL) / 2) * array.std(ddof=1) / sqrt(n) if n > 1 else np.nan
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


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns Spearman's rank correlation over the last axis (...,); NaN if one side is constant."""
    ranks = []
    for values in (first, second):
        above = np.greater(values[..., :, None], values[..., None, :]).sum(-1)
        equal = np.equal(values[..., :, None], values[..., None, :]).sum(-1)
        ranks.append(above + (equal + 1) / 2)
    with np.errstate(invalid="ignore"):
        if first.ndim == 1:
            return np.corrcoef(*ranks)[0, 1]
        centred = [rank - rank.mean(-1, keepdims=True) for rank in ranks]
        spread = np.sqrt((centred[0] ** 2).sum(-1) * (centred[1] ** 2).sum(-1))
        correlation: np.ndarray = (centred[0] * centred[1]).sum(-1) / spread
        return correlation


def mcnemar(worse: int, better: int) -> float:
    """Returns the exact two-sided p of these counts of opposite changes (Psychometrika 12, 1947)."""
    from scipy.stats import binomtest  # takes a second to import, so only where there are flips

    return float(binomtest(worse, worse + better).pvalue) if worse + better else 1.0


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Returns p values adjusted for their number; None stays None and does not count."""
    values = np.array([value for value in p if value is not None])
    order = np.argsort(values)[::-1]
    scaled = values[order] * (len(values) / np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum.accumulate(scaled).clip(max=1)
    remaining = iter(adjusted.tolist())
    return [None if value is None else next(remaining) for value in p]


def bootstrap_interval(
    sums: Sequence[np.ndarray], figure: Callable[..., np.ndarray], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds (m,) of figure(*sums).

    `sums` hold the tallies of each unit (units, k), one matrix a side.
    """
    return interval_of_draws(bootstrap_draws(sums, figure, seed), len(sums[0]))


def bootstrap_draws(sums: Sequence[np.ndarray], figure: Callable[..., np.ndarray], seed: int) -> np.ndarray:
    """Returns figure(*sums) of each draw of units (DRAWS, m); see `bootstrap_interval`."""
    n, figures = len(sums[0]), []
    times, start = _draw_times(n, seed), 0
    for block in _blocks(n, max(part.shape[1] for part in sums)):
        weights = times[start : start + block].astype(float)
        figures.append(figure(*(weights @ part for part in sums)))
        start += block
    return np.concatenate(figures)


@lru_cache(maxsize=4)  # the edits of a run often have equally many sources
def _draw_times(units: int, seed: int) -> np.ndarray:
    """Returns how often each unit occurs in each draw of a bootstrap (DRAWS, units)."""
    rng = np.random.default_rng(seed)
    times = np.empty((DRAWS, units), np.uint8)  # no unit is drawn 256 times: there are UNITS at most
    for draw in times:
        draw[:] = np.bincount(rng.integers(0, units, units, np.int32), minlength=units)
    return times


@lru_cache(maxsize=4)
def _draw_signs(units: int, seed: int) -> np.ndarray:
    """Returns for each unit in each draw of a randomisation test whether it keeps its sign, 0 or 1."""
    return np.random.default_rng(seed).integers(0, 2, (DRAWS, units), np.int8)


def interval_of_draws(draws: np.ndarray, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds (m,) of figures from their draws (DRAWS, m) over this number of units."""
    bounds = np.full((2, draws.shape[1]), np.nan)
    defined = ~np.isnan(draws).all(0)
    tail = tail_share(units)
    bounds[:, defined] = np.nanquantile(draws[:, defined], [tail, 1 - tail], axis=0)
    return bounds[0], bounds[1]


@cache
def tail_share(units: int) -> float:
    """Returns the share of draws beyond each bound of a percentile interval over so many units.

    Student's t takes the place of the normal distribution; the bias of the bootstrap's variance is undone.
    """
    from scipy.special import stdtrit  # of scipy.stats, which takes a second to import

    quantile = stdtrit(units - 1, (1 + LEVEL) / 2)
    return NormalDist().cdf(-quantile * sqrt(units / (units - 1)))


def one_sided_p(draws: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the p (m,) of figures against not being above zero, from their draws (DRAWS, m) of a bootstrap.

    It is below half of 1 - LEVEL exactly where the lower bound of `interval_of_draws` over as many units is
    above zero. `groups` (m,) are those that a figure rests on: there may be fewer than units. NaN for
    a figure that rests on fewer than two, or that hardly any draw has.
    """
    from scipy.special import ndtri, stdtr

    defined = ~np.isnan(draws)
    not_above = ((draws <= ROUNDING) & defined).sum(0)
    share = (1 + not_above) / (1 + defined.sum(0))
    enough = (groups > 1) & (defined.mean(0) > MOST_DRAWS)
    n = np.where(enough, groups, 2)
    p: np.ndarray = stdtr(n - 1, ndtri(np.minimum(share, 1 - 1e-9)) * np.sqrt((n - 1) / n))
    return np.where(enough, p, np.nan)


def randomisation_test(first: np.ndarray, second: np.ndarray, figure: Figure, seed: int) -> np.ndarray:
    """Returns the p values (m,) of the difference of two sides (units, k); swaps the sides of whole units."""
    observed = np.abs(figure(first.sum(0)) - figure(second.sum(0)))
    total, difference = (first + second).sum(0), first - second
    signs, start, extreme = _draw_signs(len(first), seed), 0, np.zeros(observed.shape)
    for block in _blocks(len(first), first.shape[1]):
        swapped = (signs[start : start + block] - 0.5) @ difference
        start += block
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
