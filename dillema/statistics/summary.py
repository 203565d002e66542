"""Computes all figures of one model."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..predictions import COUNTERFACTUAL, ORIGINAL, ROWS_PER_READ, Predictions
from ..task import PredictionSet
from .effect_model import EffectModel
from .effects import PlaceboComparison, judge_harm
from .intervals import LEVEL, benjamini_hochberg, bootstrap_interval, mcnemar, rate, to_number
from .paired import PairedTallies

CONFUSIONS = 20  # that are listed
ENOUGH_FOR_DEAD = 3  # groups with a class, from which on a class at 0 % is unlikely to be chance
RATES = ("flip_rate", "any_flip_rate")
FLIPS = (*(f"{name}{end}" for name in RATES for end in ("", "_low", "_high")), "mcnemar_p")

Edits = dict[Any, list[int]]
"""For each edit or value, the indices of the combinations that have it."""


def summary(predictions: Predictions, seed: int, *, valid: bool) -> dict[str, Any]:
    """Returns all figures of one model, on valid images or on all."""
    figures = headline(predictions, seed, valid=valid)
    before, after = predictions.pairs(valid=valid)
    if not len(after):
        return figures
    pairs = PairedTallies(predictions, before, after, seed)
    placebos = PlaceboComparison(predictions, seed, valid=valid)
    model = EffectModel(predictions, seed, valid=valid)
    classes = per_class(pairs)
    originals, counterfactuals = (prediction_set(predictions, rows) for rows in (before, after))
    return (
        figures
        | {"per_attribute": per_attribute(pairs, placebos, model)}
        | {"per_value": per_value(pairs, placebos, model)}
        | {"per_pair": per_pair(pairs), "per_class": classes}
        | {"confusions": confusions(originals.matrix, counterfactuals.matrix, predictions)}
        | compare_with_chance(pairs, originals)
        | {"dead_classes": dead_classes(classes)}
    )


def headline(predictions: Predictions, seed: int, *, valid: bool) -> dict[str, Any]:
    """Returns the metrics of one model on originals and counterfactuals, on valid images or on all.

    Flips are None for a task without correct and wrong predictions.
    """
    before, after = predictions.pairs(valid=valid)
    figures: dict[str, Any] = {"metric": predictions.task.metric}
    placebos = PlaceboComparison(predictions, seed, valid=valid)
    if not len(after):
        return figures | {"sources": 0, "groups": 0, "images": 0, "placebo": placebos.generator_effect()}
    pairs = PairedTallies(predictions, before, after, seed)
    figures |= {"sources": pairs.sources, "groups": pairs.groups, "images": len(after)}
    sets = {ORIGINAL: prediction_set(predictions, before), COUNTERFACTUAL: prediction_set(predictions, after)}
    for kind, part in sets.items():
        figures[kind] = {name: to_number(value) for name, value in predictions.task.metrics(part).items()}
    effect = pairs.effect()
    del effect["n"]
    edits = judge_harm([{"groups": pairs.groups, **placebos.edit_effect(after)}])[0]
    return (
        figures | effect | {"level": LEVEL} | flips(pairs) | {"placebo": placebos.generator_effect(), **edits}
    )


def prediction_set(predictions: Predictions, rows: np.ndarray) -> PredictionSet:
    """Returns the predictions of rows for the metrics of a task; a repeated row counts repeatedly."""
    weights = np.bincount(rows, minlength=len(predictions.image)).astype(float)
    matrix = predictions.confusion(weights)
    sums, scores = np.zeros(predictions.tallies.shape[1], np.int64), []
    for i in range(0, len(rows), ROWS_PER_READ):
        tallies = predictions.tallies[rows[i : i + ROWS_PER_READ]]
        sums += tallies.sum(0, dtype=np.int64)
        scores.append(predictions.task.score(tallies))
    return PredictionSet(
        sums=sums,
        scores=np.concatenate(scores),
        values={name: column[rows] for name, column in predictions.values.items()},
        matrix=without_ignored(matrix, predictions),
        full_matrix=matrix,
    )


def without_ignored(matrix: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Returns a confusion matrix in which true classes that are not scored have no counts."""
    scored = matrix.copy()
    if len(matrix) == len(predictions.labels.classes):
        scored[[i for i in predictions.labels.ignored if i < len(matrix)]] = 0
    return scored


def flips(pairs: PairedTallies) -> dict[str, float | None]:
    """Returns how often a correct answer turns wrong: by counterfactual, and for any of a source's.

    `mcnemar_p` is McNemar's p on one counterfactual of each group.
    """
    predictions = pairs.predictions
    before, after = (_is_correct(predictions, rows) for rows in (pairs.before, pairs.after))
    if before is None or after is None:
        return dict.fromkeys(FLIPS)
    source = predictions.source[pairs.after]
    starts = np.flatnonzero(np.diff(source, prepend=-1))
    flipped = np.add.reduceat(before & ~after, starts, dtype=int)
    images = np.diff(starts, append=len(source))
    is_right = before[starts]
    groups, group = np.unique(pairs.group[starts][is_right], return_inverse=True)

    def sum_by_group(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, values[is_right], len(groups))

    order = np.argsort(pairs.group, kind="stable")
    first = np.cumsum(pairs.images) - pairs.images
    random = np.random.default_rng(pairs.seed).random(pairs.groups)
    chosen = order[first + (random * pairs.images).astype(int)]
    worse, better = (before & ~after)[chosen].sum(), (after & ~before)[chosen].sum()
    return (
        rate("flip_rate", sum_by_group(flipped), sum_by_group(images))
        | rate("any_flip_rate", sum_by_group(flipped > 0), sum_by_group(np.ones(len(starts))))
        | {"mcnemar_p": mcnemar(int(worse), int(better))}
    )


def combinations_by_edit(predictions: Predictions) -> Edits:
    """Returns the combinations that have each edit, by (attribute, from, to)."""
    listed: Edits = {}
    for i, edits in enumerate(predictions.combinations):
        for edit in set(edits):
            listed.setdefault((edit.attribute, edit.original, edit.replacement), []).append(i)
    return listed


def combinations_by_value(predictions: Predictions) -> Edits:
    """Returns the combinations that have each new value, by (attribute, to)."""
    listed: Edits = {}
    for i, edits in enumerate(predictions.combinations):
        for value in {(edit.attribute, edit.replacement) for edit in edits}:
            listed.setdefault(value, []).append(i)
    return listed


def per_attribute(
    pairs: PairedTallies, placebos: PlaceboComparison, model: EffectModel
) -> list[dict[str, Any]]:
    """Returns the figures of each edit over its counterfactuals, the largest drop first."""
    rows = [
        {"attribute": attribute, "from": original, "to": replacement}
        | _edit_figures(part, placebos, model, (attribute, replacement))
        for (attribute, original, replacement), part in pairs.split_by_edits(
            combinations_by_edit(pairs.predictions)
        )
    ]
    return judge_harm(sort_by_drop(rows))


def per_value(pairs: PairedTallies, placebos: PlaceboComparison, model: EffectModel) -> list[dict[str, Any]]:
    """Returns the figures of each new value, whatever it replaces, the largest drop first."""
    rows = [
        {"attribute": attribute, "to": replacement}
        | _edit_figures(part, placebos, model, (attribute, replacement))
        for (attribute, replacement), part in pairs.split_by_edits(combinations_by_value(pairs.predictions))
    ]
    return judge_harm(sort_by_drop(rows))


def per_pair(pairs: PairedTallies) -> list[dict[str, Any]]:
    """Returns the figures of each pair of values of two attributes, the largest drop first.

    Lists only pairs that at least two sources have.
    """
    listed: Edits = {}
    for i, edits in enumerate(pairs.predictions.combinations):
        for pair in combinations(sorted({(edit.attribute, edit.replacement) for edit in edits}), 2):
            listed.setdefault(pair, []).append(i)
    rows = [
        {"attributes": [first[0], second[0]], "to": [first[1], second[1]]} | part.effect()
        for (first, second), part in pairs.split_by_edits(listed)
        if part.sources > 1
    ]
    return sort_by_drop(rows)


def per_class(pairs: PairedTallies) -> dict[str, dict[str, float | None]]:
    """Returns the metric of each class of the originals, with the interval of its drop.

    `groups` counts the groups with images of the class.
    """
    rows = _classes_of_tallies(pairs) or _classes_of_images(pairs)
    return {
        pairs.predictions.labels.classes[i]: {
            "original": to_number(original),
            "counterfactual": to_number(counterfactual),
            "drop": to_number(original - counterfactual),
            "low": to_number(low),
            "high": to_number(high),
            "groups": int(groups),
        }
        for i, (original, counterfactual, low, high, groups) in rows.items()
    }


def confusions(before: np.ndarray, after: np.ndarray, predictions: Predictions) -> list[dict[str, Any]]:
    """Returns the confusions of classes that become more frequent, the largest rise first.

    `share` is the rise divided by the count of the true class.
    """
    names = predictions.task.confusion_names(predictions.labels)
    rise = after - before
    np.fill_diagonal(rise, 0)
    largest = np.argsort(-rise, axis=None, kind="stable")[:CONFUSIONS]
    return [
        {
            "true": names[true],
            "predicted": names[predicted],
            "original": int(before[true, predicted]),
            "counterfactual": int(after[true, predicted]),
            "share": rise[true, predicted] / after[true].sum(),
        }
        for true, predicted in zip(*np.unravel_index(largest, rise.shape), strict=True)
        if rise[true, predicted] > 0
    ]


def compare_with_chance(pairs: PairedTallies, originals: PredictionSet) -> dict[str, Any]:
    """Returns the main metric of a constant answer, and whether the originals may be no better than it."""
    chance_score = to_number(pairs.predictions.task.chance_score(originals))
    if chance_score is None or pairs.groups < 2:
        return {"chance": chance_score, "near_chance": None}
    low, _ = bootstrap_interval(pairs.sums[:1], lambda sums: pairs.figure(sums)[..., :1], pairs.seed)
    return {"chance": chance_score, "near_chance": bool(low[0] <= chance_score)}


def dead_classes(classes: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the classes that are never recognised on the originals, although several groups show them."""
    return [
        name for name, row in classes.items() if row["original"] == 0 and row["groups"] >= ENOUGH_FOR_DEAD
    ]


def sort_by_drop(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows with their p adjusted, the largest drop first."""
    table = sorted(rows, key=lambda row: -np.inf if row["drop"] is None else row["drop"], reverse=True)
    adjusted = benjamini_hochberg([row["p"] for row in table])
    return [row | {"p_adjusted": p} for row, p in zip(table, adjusted, strict=True)]


def _classes_of_tallies(pairs: PairedTallies) -> dict[int, Sequence[float]]:
    """Returns the rows of `per_class` by class id, for a task whose tallies are separate for each class."""
    class_scores: Any = pairs.predictions.task.class_scores
    sides = [side[:, :-2] for side in pairs.sums]
    before, after, scores_by_unit = (
        class_scores(sums) for sums in (sides[0].sum(0), sides[1].sum(0), sides[0])
    )
    if scores_by_unit is None:
        return {}

    def drop(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        difference: np.ndarray = class_scores(first) - class_scores(second)
        return difference

    bounds = np.full((2, len(before)), np.nan)
    if pairs.groups > 1:
        bounds[:] = bootstrap_interval(sides, drop, pairs.seed)
    groups_with_class = (~np.isnan(scores_by_unit)).sum(0)
    return {
        i: (before[i], after[i], *bounds[:, i], groups_with_class[i])
        for i in np.flatnonzero(~np.isnan(before)).tolist()
    }


def _classes_of_images(pairs: PairedTallies) -> dict[int, Sequence[float]]:
    """Returns the rows of `per_class` by class id, for a task in which an image has one class."""
    values = {name: column[pairs.after] for name, column in pairs.predictions.values.items()}
    classes = pairs.predictions.task.image_classes(values)
    if classes is None:
        return {}
    rows: dict[int, Sequence[float]] = {}
    order = np.argsort(classes, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(classes[order])) + 1):
        group = pairs.select(part)
        scores = [group.figure(side.sum(0))[0] for side in group.sums]
        rows[int(classes[part[0]])] = [*scores, *(bound[0] for bound in group.bounds()), group.groups]
    return rows


def _is_correct(predictions: Predictions, rows: np.ndarray) -> np.ndarray | None:
    """Returns whether the predictions of rows are correct; None for a task without such a notion."""
    blocks = []
    for i in range(0, len(rows), ROWS_PER_READ):
        is_right = predictions.task.is_correct(predictions.tallies[rows[i : i + ROWS_PER_READ]])
        if is_right is None:
            return None
        blocks.append(is_right)
    return np.concatenate(blocks)


def _edit_figures(
    pairs: PairedTallies, placebos: PlaceboComparison, model: EffectModel, value: tuple[str, str]
) -> dict[str, Any]:
    return placebos.effects(pairs) | model.effect(value)
