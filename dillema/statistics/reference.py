"""Compares estimated drops with drops on the real images of a reference, condition by condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..predictions import ORIGINAL, REFERENCE, Predictions
from .intervals import (
    ENOUGH_GROUPS,
    LEVEL,
    assign_units,
    bootstrap_draws,
    interval_of_draws,
    rank_correlation,
    to_number,
)

Condition = tuple[tuple[str, str], ...]
"""The attributes that are not as in the normal condition, each with its value; empty for the normal one."""

ENOUGH_CONDITIONS = 3  # for a rank correlation


@dataclass(frozen=True)
class ReferenceImages:
    """What a run folder knows of conditions.

    Attributes:
        name: The name of the reference.
        normal: The attributes that make a condition, each with its value in the normal condition.
        attributes: The attributes of each source that the data set gives, by the source's name.
    """

    name: str
    normal: Mapping[str, str]
    attributes: Mapping[str, Mapping[str, str]]

    def condition(self, predictions: Predictions, row: int) -> Condition:
        """Returns the condition of a generated or real image: that of its source with its edits applied."""
        source = self.attributes.get(predictions.sources[predictions.source[row]], {})
        edits = {
            edit.attribute: edit.replacement
            for edit in predictions.combinations[predictions.combination[row]]
        }
        values = {name: edits.get(name, source.get(name, value)) for name, value in self.normal.items()}
        return tuple((name, value) for name, value in values.items() if value != self.normal[name])


@dataclass(frozen=True)
class Side:
    """Tallies of the images of one side, by unit of the bootstrap and by column.

    Attributes:
        sums: The tallies (units, columns, width).
        images: The number of images of each column.
        groups: The number of groups of each column.
    """

    sums: np.ndarray
    images: np.ndarray
    groups: np.ndarray


def compare_with_reference(
    predictions: Predictions, reference: ReferenceImages, seed: int
) -> dict[str, Any] | None:
    """Returns the estimated and the real drop of each condition; None without real images.

    An attribute of a source that is not known is taken as normal. The real drop is measured from the real
    images of the normal condition or, if there are none, from the originals of the run (`baseline`).

    Intervals are those of a bootstrap over groups, in which sources and real images are drawn independently.
    `rank_correlation` is Spearman's over the conditions that both sides have, with the interval of the same
    draws. `uncovered` lists the real conditions that no valid image has, and `unconfirmed` the conditions of
    valid images that the reference lacks.
    """
    real = np.flatnonzero(predictions.kind == REFERENCE)
    if not len(real):
        return None
    before, after = predictions.pairs(valid=True)
    conditions_of_real, conditions_of_generated = (
        [reference.condition(predictions, row) for row in rows.tolist()] for rows in (real, after)
    )
    conditions = sorted({*conditions_of_real} - {()})
    originals = np.flatnonzero(predictions.kind == ORIGINAL)
    column = {condition: i for i, condition in enumerate(conditions)}
    is_covered = np.array([condition in column for condition in conditions_of_generated], bool)
    columns = np.array([column.get(condition, 0) for condition in conditions_of_generated], int)[is_covered]
    count = len(conditions)
    # columns of sources: before, after, originals; of the reference: conditions, the normal one
    sources = _add_up(
        predictions,
        np.concatenate([before[is_covered], after[is_covered], originals]),
        np.concatenate([columns, count + columns, np.full(len(originals), 2 * count)]),
        2 * count + 1,
        seed,
    )
    references = _add_up(
        predictions, real, np.array([column.get(c, count) for c in conditions_of_real], int), count + 1, seed
    )
    baseline = "reference" if references.images[count] else "originals"
    table, figures = _compare(predictions, sources, references, conditions, baseline, seed)
    covered = {condition for condition in conditions_of_generated if condition}
    return {
        "name": reference.name,
        "normal": dict(reference.normal),
        "baseline": baseline,
        "baseline_images": int(references.images[count] if baseline == "reference" else len(originals)),
        "level": LEVEL,
        **figures,
        "conditions": table,
        "uncovered": [dict(condition) for condition in conditions if condition not in covered],
        "unconfirmed": [dict(condition) for condition in sorted(covered - {*conditions})],
    }


def _add_up(predictions: Predictions, rows: np.ndarray, columns: np.ndarray, count: int, seed: int) -> Side:
    groups, group = np.unique(predictions.group[predictions.source[rows]], return_inverse=True)
    unit = assign_units(len(groups), seed)[group]
    sums = np.zeros((int(unit.max(initial=-1)) + 1, count, predictions.tallies.shape[1]))
    np.add.at(sums, (unit, columns), predictions.tallies[rows])
    pairs = np.unique(np.stack([columns, group]), axis=1)
    return Side(sums, np.bincount(columns, minlength=count), np.bincount(pairs[0], minlength=count))


def _compare(
    predictions: Predictions,
    sources: Side,
    references: Side,
    conditions: Sequence[Condition],
    baseline: str,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns the figures of each condition, and those of all together."""
    count = len(conditions)

    def drops(of_sources: np.ndarray, of_references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns estimated and real drops (..., conditions) from scores of columns."""
        start = of_references[..., count:] if baseline == "reference" else of_sources[..., 2 * count :]
        return of_sources[..., :count] - of_sources[..., count : 2 * count], start - of_references[
            ..., :count
        ]

    def score(sums: np.ndarray) -> np.ndarray:
        width = predictions.tallies.shape[1]
        scores: np.ndarray = predictions.task.score(sums.reshape(*sums.shape[:-1], -1, width))
        return scores

    totals = [side.sums.sum(0).reshape(-1) for side in (sources, references)]
    estimated, real = drops(*map(score, totals))
    bounds = np.full((4, count), np.nan)
    draws = None
    units = [len(side.sums) for side in (sources, references)]
    if min(units) > 1:
        flat = [side.sums.reshape(len(side.sums), -1) for side in (sources, references)]
        # other seeds, because the two sides are independent
        draws = drops(*(bootstrap_draws([part], score, seed + i) for i, part in enumerate(flat)))
        for i, part in enumerate(draws):
            bounds[2 * i : 2 * i + 2] = interval_of_draws(part, units[i])
    bounds[:2, sources.groups[:count] < 2] = np.nan
    bounds[2:, references.groups[:count] < 2] = np.nan
    table = _tabulate(conditions, estimated, real, bounds, sources, references)
    both = ~np.isnan(estimated + real)
    compared = None if draws is None else [part[:, both] for part in draws]
    figures = {
        "compared": int(both.sum()),
        "mean_absolute_error": to_number(np.abs(estimated - real)[both].mean()) if both.any() else None,
        **_correlate(estimated[both], real[both], compared, min(units)),
    }
    return table, figures


def _tabulate(
    conditions: Sequence[Condition],
    estimated: np.ndarray,
    real: np.ndarray,
    bounds: np.ndarray,
    sources: Side,
    references: Side,
) -> list[dict[str, Any]]:
    """Returns the figures of each condition; `bounds` are those of the estimated and of the real drops."""
    return [
        {
            "condition": dict(condition),
            "estimated": to_number(estimated[i]),
            "estimated_low": to_number(bounds[0, i]),
            "estimated_high": to_number(bounds[1, i]),
            "n": int(sources.images[i]),
            "sources": int(sources.groups[i]),
            "real": to_number(real[i]),
            "real_low": to_number(bounds[2, i]),
            "real_high": to_number(bounds[3, i]),
            "real_images": int(references.images[i]),
            "rough": bool(min(sources.groups[i], references.groups[i]) < ENOUGH_GROUPS),
        }
        for i, condition in enumerate(conditions)
    ]


def _correlate(
    estimated: np.ndarray, real: np.ndarray, draws: Sequence[np.ndarray] | None, units: int
) -> dict[str, float | None]:
    """Returns the rank correlation over conditions with its interval; None for too few conditions."""
    names = ("rank_correlation", "rank_low", "rank_high")
    if len(estimated) < ENOUGH_CONDITIONS:
        return dict.fromkeys(names)
    bounds = np.full((2, 1), np.nan)
    if draws is not None:
        complete = ~np.isnan(draws[0] + draws[1]).any(1)
        if complete.any():
            drawn = rank_correlation(draws[0][complete], draws[1][complete])
            bounds[:] = interval_of_draws(drawn[:, None], units)
    values = (rank_correlation(estimated, real), bounds[0, 0], bounds[1, 0])
    return dict(zip(names, map(to_number, values), strict=True))
