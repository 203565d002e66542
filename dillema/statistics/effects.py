"""Separates the effect of an edit from that of the generator and of other edits of the same images.

- The same generator paints the placebo from the unchanged caption. The drop from the original to the placebo
  is the effect of the generator; the drop from the placebo to the counterfactual is the effect of the edits.
- The additive model separates edits of the same images. It fits the tallies of an image as those of its
  source plus a change for each new value, by least squares within sources (the fixed effects estimator;
  Wooldridge, Econometric Analysis of Cross Section and Panel Data, 2010, chapter 10). The effect of a value
  is the main metric of the references of the images that have it, less the main metric of the same tallies
  with the change of this value alone. Intervals are those of the same bootstrap as everywhere.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..predictions import COUNTERFACTUAL, ORIGINAL, PLACEBO, Predictions
from .intervals import LEVEL, assign_units, benjamini_hochberg, bootstrap_interval, to_number
from .paired import PairedTallies

Value = tuple[str, str]
"""An attribute and the value it is changed to."""

EDIT_FIGURES = ("edit_n", "edit_drop", "edit_low", "edit_high", "edit_p")
EFFECT_FIGURES = ("effect", "effect_low", "effect_high")
MAX_VALUES = 40  # in the additive model, the most common ones: captions in free words have thousands
ROUNDING = 1e-6  # a smaller effect counts as zero
RIDGE = 1e-9  # of the mean diagonal: keeps draws solvable in which a value is missing
IDENTIFIED = 1e-6  # a value whose effect is mixed with that of others by more than this cannot be told apart


class PlaceboComparison:
    """Counterfactuals compared with the placebos of their sources."""

    def __init__(self, predictions: Predictions, seed: int, *, valid: bool) -> None:
        self.predictions, self.seed = predictions, seed
        self.placebo_row = np.full(len(predictions.image), -1)
        placebos, counterfactuals = predictions.pairs(COUNTERFACTUAL, valid, reference=PLACEBO)
        self.placebo_row[counterfactuals] = placebos
        self.originals, self.placebos = predictions.pairs(PLACEBO, valid)

    @property
    def exists(self) -> bool:
        """Returns whether there is any placebo."""
        return len(self.placebos) > 0

    def generator_effect(self) -> dict[str, Any] | None:
        """Returns the effect of the generator alone, from original to placebo; None without placebos."""
        if not self.exists:
            return None
        pairs = PairedTallies(self.predictions, self.originals, self.placebos, self.seed)
        original, placebo = (to_number(pairs.figure(side.sum(0))[0]) for side in pairs.sums)
        effect = pairs.effect()
        figures = ("drop", "low", "high", "p", "n", "sources", "groups", "rough")
        return {"original": original, "placebo": placebo, **{name: effect[name] for name in figures}}

    def edit_effect(self, counterfactuals: np.ndarray) -> dict[str, Any]:
        """Returns the effect of edits, from placebo to counterfactual, over pairs in which both exist."""
        placebos = self.placebo_row[counterfactuals]
        paired = placebos >= 0
        if not paired.any():
            return dict.fromkeys(EDIT_FIGURES)
        pairs = PairedTallies(self.predictions, placebos[paired], counterfactuals[paired], self.seed)
        effect = pairs.effect()
        return {f"edit_{name}": effect[name] for name in ("n", "drop", "low", "high", "p")}


def judge_harm(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows with `edit_p_adjusted` and `harmful`.

    An edit is harmful if its drop exceeds that of the placebo significantly and, if its own effect can be
    separated from that of other edits, the lower bound of this effect is above 0. `harmful` is None if there
    is no placebo, or if the effect cannot be separated from that of edits that always occur with it.
    """
    adjusted = benjamini_hochberg([row["edit_p"] for row in rows])
    judged = []
    for row, p in zip(rows, adjusted, strict=True):
        harmful: bool | None = None
        if row["edit_drop"] is not None:
            exceeds = p is not None and p < 1 - LEVEL and row["edit_drop"] > 0
            confounded = "effect" in row and row["effect_low"] is None
            own_effect = row.get("effect_low", row["edit_drop"])
            harmful = False if not exceeds else None if confounded else own_effect > ROUNDING
        judged.append(row | {"edit_p_adjusted": p, "harmful": harmful})
    return judged


@dataclass(frozen=True)
class AdditiveSums:
    """Sums over the images of each unit, from which the additive model is computed.

    Attributes:
        gram: Products of the indicators of values, less their source's mean (units, values, values).
        cross: Products of these indicators and tallies (units, values, width).
        reference: The tallies of the references of the images that have each value (units, values, width).
        images: How many images have each value (units, values).
    """

    gram: np.ndarray
    cross: np.ndarray
    reference: np.ndarray
    images: np.ndarray


@dataclass
class AdditiveModel:
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
        values = self._values(after)
        if values:
            self._fit(before, after, values)

    def effect(self, value: Value) -> dict[str, Any]:
        """Returns the effect of a value with its interval, and the values it cannot be separated from."""
        return self.effects.get(value, {**dict.fromkeys(EFFECT_FIGURES), "always_with": []})

    def _values(self, after: np.ndarray) -> list[Value]:
        images = np.bincount(
            self.predictions.combination[after], minlength=len(self.predictions.combinations)
        )
        counts: Counter[Value] = Counter()
        for edits, count in zip(self.predictions.combinations, images.tolist(), strict=True):
            for value in {(edit.attribute, edit.replacement) for edit in edits} if count else ():
                counts[value] += count
        return [value for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]

    def _fit(self, before: np.ndarray, after: np.ndarray, values: list[Value]) -> None:
        modelled = values[:MAX_VALUES]
        sums = self._sums(before, after, indicators(self.predictions, modelled, len(values) > len(modelled)))
        count = len(modelled)
        identified, mixed = identify(sums.gram.sum(0))
        estimate = self._estimate(*(part.sum(0)[None] for part in vars(sums).values()))[0]
        bounds = np.full((2, len(estimate)), np.nan)
        if len(sums.images) > 1:
            flat = [part.reshape(len(part), -1) for part in vars(sums).values()]
            bounds[:] = bootstrap_interval(flat, self._estimate_flat, self.seed)
            # no share changes by more than 1: such bounds say that some draws cannot separate the effect
            bounds[:, (np.abs(bounds) > 1).any(0)] = np.nan
        inseparable = self._find_inseparable(after, modelled)
        for i, value in enumerate(modelled):
            told_apart = bool(identified[i])
            figures = (estimate[i], bounds[0, i], bounds[1, i]) if told_apart else (np.nan, np.nan, np.nan)
            confounders = inseparable[i] or [
                modelled[j] for j in np.flatnonzero(mixed[i, :count]).tolist() if j != i
            ]
            self.effects[value] = {
                **dict(zip(EFFECT_FIGURES, map(to_number, figures), strict=True)),
                "always_with": [] if told_apart else [list(other) for other in confounders],
            }

    def _sums(self, before: np.ndarray, after: np.ndarray, table: np.ndarray) -> AdditiveSums:
        predictions = self.predictions
        source = predictions.source[after]
        groups, group = np.unique(predictions.group[source], return_inverse=True)
        unit = assign_units(len(groups), self.seed)[group]
        order = np.argsort(unit, kind="stable")  # sources stay together
        units, width, columns = int(unit.max()) + 1, predictions.tallies.shape[1], table.shape[1]
        sums = AdditiveSums(
            np.zeros((units, columns, columns)),
            np.zeros((units, columns, width)),
            np.zeros((units, columns, width)),
            np.zeros((units, columns)),
        )
        for part in np.split(order, np.flatnonzero(np.diff(unit[order])) + 1):
            index = unit[part[0]]
            x = table[predictions.combination[after[part]]]
            starts = np.flatnonzero(np.diff(source[part], prepend=-1))
            images = np.diff(starts, append=len(part))
            mean = (
                np.add.reduceat(x, starts, axis=0) / (images + 1)[:, None]
            )  # the reference is an image without edits
            centred = x - np.repeat(mean, images, axis=0)
            references = predictions.tallies[before[part]].astype(float)
            sums.gram[index] = centred.T @ x
            sums.cross[index] = centred.T @ predictions.tallies[after[part]] - mean.T @ references[starts]
            sums.reference[index] = x.T @ references
            sums.images[index] = x.sum(0)
        return sums

    def _estimate_flat(self, *sums: np.ndarray) -> np.ndarray:
        gram, cross, reference, images = sums
        draws, columns = images.shape
        return self._estimate(
            gram.reshape(draws, columns, columns),
            cross.reshape(draws, columns, -1),
            reference.reshape(draws, columns, -1),
            images,
        )

    def _estimate(
        self, gram: np.ndarray, cross: np.ndarray, reference: np.ndarray, images: np.ndarray
    ) -> np.ndarray:
        """Returns the effect of each value (draws, values) from sums over units."""
        columns = gram.shape[-1]
        scale = np.trace(gram, axis1=-2, axis2=-1)[:, None, None] / columns + RIDGE
        change = np.linalg.solve(gram + RIDGE * scale * np.eye(columns), cross)
        with np.errstate(invalid="ignore"):  # of a value that a draw lacks: 0 / 0
            before = reference / images[..., None]
        score = self.predictions.task.score
        return score(before) - score(np.maximum(before + change, 0))

    def _find_inseparable(self, after: np.ndarray, values: list[Value]) -> list[list[Value]]:
        """Returns for each value the other values that all images with it have."""
        table = indicators(self.predictions, values, False)[np.unique(self.predictions.combination[after])]
        joint_counts, counts = table.T @ table, table.sum(0)
        always = (joint_counts == counts[:, None]) & ~np.eye(len(values), dtype=bool)
        return [[values[j] for j in np.flatnonzero(row).tolist()] for row in always]


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


def identify(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each effect is identified (values), and the effects mixed with it (values, values)."""
    resolution = np.linalg.pinv(gram, rcond=1e-9, hermitian=True) @ gram
    deviation = np.abs(resolution - np.eye(len(gram)))
    return deviation.max(1) < IDENTIFIED, np.abs(resolution) > IDENTIFIED
