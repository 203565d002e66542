"""Separates the effects of the edits of the same images.

A log-linear model fits the main metric of an image as that of its reference times a factor for each new
value: where the night has cost most of it already, rain can cost little more. The factors solve the score
equations of a Poisson regression (pseudo maximum likelihood; Santos Silva and Tenreyro, The Review of
Economics and Statistics 88, 2006), in which images of score 0 are no exception. The effect of a value is the
main metric of the references of the images that have it, less the same times its factor. Intervals and
one-sided p values are of the same bootstrap as everywhere; the metric of the references is not drawn again.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..predictions import COUNTERFACTUAL, ORIGINAL, PLACEBO, ROWS_PER_READ, Predictions
from .intervals import assign_units, bootstrap_draws, interval_of_draws, one_sided_p, to_number

Value = tuple[str, str]
"""An attribute and the value it is changed to."""

EFFECT_FIGURES = ("effect", "effect_low", "effect_high", "effect_p")
MAX_VALUES = 40  # in the model, the most common ones: captions in free words have thousands
RIDGE = 1e-9  # of the mean diagonal: keeps draws solvable in which a value is missing
IDENTIFIED = 1e-6  # a value whose effect is mixed with that of others by more than this cannot be told apart
ITERATIONS = 30  # of Newton's method, at most
LARGEST = 20.0  # logarithm of a factor: beyond, nothing of the metric is left
CONVERGED = 1e-9


@dataclass
class EffectModel:
    """The effects of the new values of attributes in images of a kind, separated from each other."""

    predictions: Predictions
    seed: int
    kind: str = COUNTERFACTUAL
    valid: bool = True
    effects: dict[Value, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fits the model; the reference of a source is its placebo if the run has placebos."""
        reference = ORIGINAL
        if self.kind == COUNTERFACTUAL and (self.predictions.kind == PLACEBO).any():
            reference = PLACEBO
        before, after = self.predictions.pairs(self.kind, self.valid, reference=reference)
        scores = self._score(before), self._score(after)
        scored = ~np.isnan(scores[0] + scores[1])
        before, after = before[scored], after[scored]
        values = self._values(after)
        if values:
            self._fit(before, after, scores[0][scored], scores[1][scored], values)

    def effect(self, value: Value) -> dict[str, Any]:
        """Returns the effect of a value with its interval, and the values it cannot be separated from."""
        return self.effects.get(value, {**dict.fromkeys(EFFECT_FIGURES), "always_with": []})

    def _score(self, rows: np.ndarray) -> np.ndarray:
        """Returns the main metric of each image alone."""
        tallies, score = self.predictions.tallies, self.predictions.task.score
        blocks = [
            score(tallies[rows[start : start + ROWS_PER_READ]].astype(float))
            for start in range(0, len(rows), ROWS_PER_READ)
        ]
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def _values(self, after: np.ndarray) -> list[Value]:
        images = np.bincount(
            self.predictions.combination[after], minlength=len(self.predictions.combinations)
        )
        counts: Counter[Value] = Counter()
        for edits, count in zip(self.predictions.combinations, images.tolist(), strict=True):
            for value in {(edit.attribute, edit.replacement) for edit in edits} if count else ():
                counts[value] += count
        return [value for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]

    def _fit(
        self,
        before: np.ndarray,
        after: np.ndarray,
        reference_scores: np.ndarray,
        scores: np.ndarray,
        values: list[Value],
    ) -> None:
        modelled = values[:MAX_VALUES]
        combinations, combination = np.unique(self.predictions.combination[after], return_inverse=True)
        indicated = indicators(self.predictions, modelled, len(values) > len(modelled))[combinations]
        table, row = np.unique(indicated, axis=0, return_inverse=True)
        code = row.reshape(-1)[combination]
        groups, group = np.unique(self.predictions.group[self.predictions.source[after]], return_inverse=True)
        unit = assign_units(len(groups), self.seed)[group]
        # the sums over the images of each unit with each combination of edits are all that the model needs
        sums = [np.zeros((int(unit.max()) + 1, len(table))) for _ in range(2)]
        for side, part in zip(sums, (reference_scores, scores), strict=True):
            np.add.at(side, (unit, code), part)
        images = np.bincount(code, minlength=len(table))
        identified, mixed = identify(table.T @ (table * images[:, None]))
        base = self._reference_metric(before, table[code])

        def estimate(references: np.ndarray, counterfactuals: np.ndarray) -> np.ndarray:
            factors = fit_factors(references, counterfactuals, table)
            effects: np.ndarray = base * (1 - factors)
            return effects

        point = estimate(*(side.sum(0)[None] for side in sums))[0]
        bounds, p = np.full((2, len(point)), np.nan), np.full(len(point), np.nan)
        if len(sums[0]) > 1:
            draws = bootstrap_draws(sums, estimate, self.seed)
            bounds[:] = interval_of_draws(draws, len(sums[0]))
            # no share changes by more than 1: such bounds say that some draws cannot separate the effect
            bounds[:, (np.abs(bounds) > 1).any(0)] = np.nan
            pairs = np.unique(np.stack([group, code]), axis=1)  # each group's combinations
            has_value = np.zeros((len(groups), table.shape[1]), bool)
            np.logical_or.at(has_value, pairs[0], table[pairs[1]] > 0)
            p = one_sided_p(draws, has_value.sum(0))
        inseparable = find_inseparable(table[:, : len(modelled)], modelled)
        for i, value in enumerate(modelled):
            told_apart = bool(identified[i])
            figures = np.array([point[i], *bounds[:, i], p[i]]) if told_apart else np.full(4, np.nan)
            confounders = inseparable[i] or [
                modelled[j] for j in np.flatnonzero(mixed[i, : len(modelled)]).tolist() if j != i
            ]
            self.effects[value] = {
                **dict(zip(EFFECT_FIGURES, map(to_number, figures), strict=True)),
                "always_with": [] if told_apart else [list(other) for other in confounders],
            }

    def _reference_metric(self, before: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Returns the main metric of the references of the images that have each value."""
        sums = np.zeros((table.shape[1], self.predictions.tallies.shape[1]))
        for start in range(0, len(before), ROWS_PER_READ):
            part = slice(start, start + ROWS_PER_READ)
            sums += table[part].T @ self.predictions.tallies[before[part]].astype(float)
        metric: np.ndarray = self.predictions.task.score(sums)
        return metric


def fit_factors(references: np.ndarray, scores: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Returns the factor of each value (draws, values), NaN for a value that a draw lacks.

    Args:
        references: Sums of the scores of references with each combination (draws, combinations).
        scores: Those of the images with each combination.
        table: Which combinations have each value (combinations, values).
    """
    draws, columns = len(references), table.shape[1]
    products = (table[:, :, None] * table[:, None, :]).reshape(len(table), -1)
    factors = np.zeros((draws, columns))  # their logarithms
    for _ in range(ITERATIONS):
        expected = references * np.exp(factors @ table.T)
        gradient = (scores - expected) @ table
        curvature = (expected @ products).reshape(draws, columns, columns)
        scale = np.trace(curvature, axis1=-2, axis2=-1)[:, None, None] / columns + RIDGE
        step = np.linalg.solve(curvature + RIDGE * scale * np.eye(columns), gradient[..., None])[..., 0]
        new = np.clip(factors + np.clip(step, -1, 1), -LARGEST, LARGEST)
        change, factors = np.abs(new - factors).max(), new
        if change < CONVERGED:
            break
    return np.where(references @ table > 0, np.exp(factors), np.nan)


def indicators(predictions: Predictions, values: list[Value], with_others: bool) -> np.ndarray:
    """Returns which combinations of edits have each value (combinations, values).

    A last column stands for all other values, if `with_others` is set.
    """
    columns: Mapping[Value, int] = {value: i for i, value in enumerate(values)}
    table = np.zeros((len(predictions.combinations), len(values) + with_others))
    for i, edits in enumerate(predictions.combinations):
        for edit in edits:
            column = columns.get((edit.attribute, edit.replacement), len(values) if with_others else None)
            if column is not None:
                table[i, column] = 1
    return table


def find_inseparable(table: np.ndarray, values: list[Value]) -> list[list[Value]]:
    """Returns for each value the other values that all combinations with it have."""
    joint_counts, counts = table.T @ table, table.sum(0)
    always = (joint_counts == counts[:, None]) & ~np.eye(len(values), dtype=bool)
    return [[values[j] for j in np.flatnonzero(row).tolist()] for row in always]


def identify(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each effect is identified (values), and the effects mixed with it (values, values)."""
    resolution = np.linalg.pinv(gram, rcond=1e-9, hermitian=True) @ gram
    deviation = np.abs(resolution - np.eye(len(gram)))
    return deviation.max(1) < IDENTIFIED, np.abs(resolution) > IDENTIFIED
