"""How far raters agree beyond chance, with intervals over groups of images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .intervals import add_up, assign_units, bootstrap_interval, to_number

Ratings = Mapping[Any, Mapping[str, Any]]
"""The answer of each rater, by image and by rater."""


def fleiss_kappa(
    ratings: Ratings,
    categories: Sequence[Any],
    groups: Mapping[Any, str],
    seed: int,
    *,
    ordered: bool = False,
) -> dict[str, Any]:
    """Returns Fleiss' kappa of all raters: `images`, `kappa`, `low`, `high`.

    Images with a single rating count for the chance agreement only, as in Gwet, Handbook of Inter-Rater
    Reliability (2014), chapter 2; with equally many ratings of every image it is Fleiss' (Psychological
    Bulletin 76, 1971). `ordered` weights disagreements by the square of their distance. The interval is a
    bootstrap over groups. Figures are None where they are not defined.
    """
    weights = _weights(len(categories), ordered)
    position = {category: i for i, category in enumerate(categories)}
    images = [image for image, answers in ratings.items() if answers]
    counts = np.zeros((len(images), len(categories)))
    for row, image in enumerate(images):
        for answer in ratings[image].values():
            counts[row, position[answer]] += 1
    number = counts.sum(1)
    several = number >= 2
    agreeing = (counts * (counts @ weights - 1)).sum(1) / np.maximum(number * (number - 1), 1)
    tallies = np.column_stack(
        [agreeing * several, several, counts / np.maximum(number, 1)[:, None], np.ones(len(images))]
    )

    def kappa(sums: np.ndarray) -> np.ndarray:
        shares = sums[..., 2:-1] / sums[..., -1:]
        observed, expected = sums[..., 0] / sums[..., 1], ((shares @ weights) * shares).sum(-1)
        return _beyond_chance(observed, expected)

    return {"images": int(several.sum())} | _with_interval(
        tallies, [groups[image] for image in images], kappa, seed
    )


def cohen_kappa(
    pairs: Sequence[tuple[Any, Any]],
    categories: Sequence[Any],
    groups: Sequence[str],
    seed: int,
    *,
    ordered: bool = False,
) -> dict[str, Any]:
    """Returns Cohen's kappa of two raters: `images`, `kappa`, `low`, `high`.

    See Educational and Psychological Measurement 20 (1960), and, for `ordered` categories (quadratic
    weights), Psychological Bulletin 70 (1968). `groups` has the group of each pair of answers.
    """
    size = len(categories)
    weights = _weights(size, ordered)
    position = {category: i for i, category in enumerate(categories)}
    cells = [position[first] * size + position[second] for first, second in pairs]
    tallies = np.eye(size * size)[cells].reshape(len(cells), size * size)

    def kappa(sums: np.ndarray) -> np.ndarray:
        table = sums.reshape(*sums.shape[:-1], size, size) / sums.sum(-1)[..., None, None]
        observed = (table * weights).sum((-1, -2))
        expected = (table.sum(-1)[..., :, None] * table.sum(-2)[..., None, :] * weights).sum((-1, -2))
        return _beyond_chance(observed, expected)

    return {"images": len(pairs)} | _with_interval(tallies, groups, kappa, seed)


def _weights(size: int, ordered: bool) -> np.ndarray:
    """Returns how far two answers agree, from 0 to 1 (categories, categories)."""
    ids = np.arange(size)
    return 1 - ((ids[:, None] - ids) / max(size - 1, 1)) ** 2 if ordered else np.eye(size)


def _beyond_chance(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns kappa (..., 1); NaN where chance alone gives full agreement."""
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa = np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)
    return kappa[..., None]


def _with_interval(tallies: np.ndarray, groups: Sequence[str], figure: Any, seed: int) -> dict[str, Any]:
    if not len(tallies):
        return {"kappa": None, "low": None, "high": None}
    _, group = np.unique(list(groups), return_inverse=True)
    unit = assign_units(int(group.max()) + 1, seed)[group]
    sums = add_up(tallies, np.arange(len(tallies)), unit)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa = figure(sums.sum(0))[0]
        bounds: Any = (np.nan, np.nan)
        if len(sums) > 1 and not np.isnan(kappa):
            low, high = bootstrap_interval([sums], figure, seed)
            if high[0] > low[0]:  # with full agreement no draw differs: that is no interval
                bounds = low[0], high[0]
    return {"kappa": to_number(kappa), "low": to_number(bounds[0]), "high": to_number(bounds[1])}
