"""Figures that one can defend, from what a model said about single images (see evaluation.module.Evaluation).

Everything is paired: a counterfactual image is held against the original it was made from, and an original counts as often
as it has counterfactuals, so that a drop is exactly the difference of two metrics. Images of one source are not independent,
so intervals come from resampling sources.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from ..types import Dataset, Edit

LEVEL = 0.95
DRAWS = 2000
BLOCK = 100  # draws held in memory at a time

Said = Mapping[str, Any]
"""The record of one image."""


@dataclass(frozen=True)
class Outcome:
    """What a model said about the image of a source and about one counterfactual of it."""

    source: str
    edits: tuple[Edit, ...]
    original: Said
    counterfactual: Said


@dataclass(frozen=True)
class Metric:
    """A figure of summed tallies: `tally` turns a record into numbers that add up, `figure` takes sums (..., k) and returns (...)."""

    tally: Callable[[Said], np.ndarray]
    figure: Callable[[np.ndarray], np.ndarray]


def metrics(dataset: Dataset) -> dict[str, Metric]:
    """Returns the metrics of a data set's task by name, the main one first."""
    if dataset.task == "classification":
        return {"accuracy": Metric(lambda said: np.array([right(said), 1]), lambda sums: sums[..., 0] / sums[..., 1])}
    size = len(dataset.classes)

    def tally(said: Said) -> np.ndarray:
        return confusion_of(said, size).ravel()

    return {
        "mean_iou": Metric(tally, lambda sums: mean_iou(sums.reshape(*sums.shape[:-1], size, size))),
        "pixel_accuracy": Metric(tally, lambda sums: pixel_accuracy(sums.reshape(*sums.shape[:-1], size, size))),
    }


def right(said: Said) -> bool:
    """Returns whether the predicted class is the label."""
    return bool(said["predicted"] == said["label"])


def confusion_of(said: Said, size: int) -> np.ndarray:
    """Returns the confusion matrix (size, size) of one image: true classes are rows."""
    matrix = np.zeros((size, size))
    for true, predicted, pixels in said["confusion"]:
        matrix[true, predicted] = pixels
    return matrix


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of each class (..., classes), NaN where the truth has none of it."""
    hits, truth = np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1)
    union = truth + matrix.sum(-2) - hits
    return np.where(truth > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(matrix: np.ndarray) -> np.ndarray:
    """Returns the mean of the classes' intersection over union, over the classes that the truth has; NaN when it has none."""
    iou = class_iou(matrix)
    present = ~np.isnan(iou)
    return np.where(present, iou, 0).sum(-1) / np.where(present.any(-1), present.sum(-1), np.nan)


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Returns the share of pixels that were predicted right."""
    total = matrix.sum((-2, -1))
    return np.trace(matrix, axis1=-2, axis2=-1) / np.where(total > 0, total, np.nan)


def drop(outcomes: Sequence[Outcome], metric: Metric, seed: int) -> dict[str, float | None]:
    """Returns how far a metric falls from the originals to their counterfactuals, with the interval that holds it at LEVEL.

    The interval is the percentile interval of a paired bootstrap over sources (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13); there is none for a single source.
    """
    sources = {source: i for i, source in enumerate(dict.fromkeys(o.source for o in outcomes))}
    before, after = (np.zeros((len(sources), len(metric.tally(outcomes[0].original)))) for _ in range(2))
    for outcome in outcomes:
        before[sources[outcome.source]] += metric.tally(outcome.original)
        after[sources[outcome.source]] += metric.tally(outcome.counterfactual)
    result = {"drop": _number(metric.figure(before.sum(0)) - metric.figure(after.sum(0))), "low": None, "high": None, "level": LEVEL}
    if len(sources) > 1 and result["drop"] is not None:
        random, even, draws = np.random.default_rng(seed), np.full(len(sources), 1 / len(sources)), []
        for _ in range(0, DRAWS, BLOCK):
            times = random.multinomial(len(sources), even, BLOCK).astype(float)
            draws.append(metric.figure(times @ before) - metric.figure(times @ after))
        result["low"], result["high"] = (_number(q) for q in np.nanquantile(np.concatenate(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return result


def flips(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Returns how often a right answer turns wrong: per counterfactual, for any of a source's, and McNemar's exact p.

    The rates are among sources whose original was answered right. The test (McNemar, Psychometrika 1947; exact, two-sided)
    takes the first counterfactual of each source.
    """
    sound = [o for o in outcomes if right(o.original)]
    flipped = {o.source for o in sound if not right(o.counterfactual)}
    first = list({o.source: o for o in reversed(outcomes)}.values())
    worse = sum(right(o.original) and not right(o.counterfactual) for o in first)
    better = sum(right(o.counterfactual) and not right(o.original) for o in first)
    return {
        "flip_rate": sum(not right(o.counterfactual) for o in sound) / len(sound) if sound else None,
        "any_flip_rate": len(flipped) / len({o.source for o in sound}) if sound else None,
        "mcnemar_p": mcnemar(worse, better),
    }


def mcnemar(worse: int, better: int) -> float:
    """Returns the two-sided exact p of so many changes for the worse and for the better, if both were equally likely."""
    n = worse + better
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(worse, better) + 1)) / 2**n)


def per_attribute(outcomes: Sequence[Outcome], metric: Metric, seed: int) -> list[dict[str, Any]]:
    """Returns the drop over the counterfactuals that hold an edit, for each edit, the most harmful first."""
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        for edit in outcome.edits:
            groups.setdefault((edit.attribute, edit.original, edit.replacement), []).append(outcome)
    rows = [
        {"attribute": attribute, "from": original, "to": replacement, "n": len(group)} | drop(group, metric, seed)
        for (attribute, original, replacement), group in sorted(groups.items())
    ]
    return sorted(rows, key=lambda row: -np.inf if row["drop"] is None else row["drop"], reverse=True)


def per_class(outcomes: Sequence[Outcome], dataset: Dataset) -> dict[str, dict[str, float | None]]:
    """Returns the intersection over union, or the accuracy, of each class that the originals have."""
    size = len(dataset.classes)
    both = []
    for side in ("original", "counterfactual"):
        if dataset.task == "segmentation":
            figures = class_iou(sum((confusion_of(getattr(o, side), size) for o in outcomes), np.zeros((size, size))))
        else:
            labels = np.array([getattr(o, side)["label"] for o in outcomes])
            hits = np.bincount(labels, [right(getattr(o, side)) for o in outcomes], size)
            total = np.bincount(labels, minlength=size)
            figures = np.where(total > 0, hits / np.maximum(total, 1), np.nan)
        both.append(figures)
    before, after = both
    return {
        name: {"original": _number(before[i]), "counterfactual": _number(after[i]), "drop": _number(before[i] - after[i])}
        for i, name in enumerate(dataset.classes)
        if not np.isnan(before[i])
    }


def summary(outcomes: Sequence[Outcome], dataset: Dataset, seed: int) -> dict[str, Any]:
    """Returns all figures of one model. Flips are about right and wrong answers, so they are None for segmentation."""
    known = metrics(dataset)
    main = next(iter(known))
    figures: dict[str, Any] = {"metric": main, "sources": len({o.source for o in outcomes}), "images": len(outcomes)}
    if not outcomes:
        return figures
    for side in ("original", "counterfactual"):
        figures[side] = {n: _number(m.figure(sum((m.tally(getattr(o, side)) for o in outcomes), np.zeros(())))) for n, m in known.items()}
    return (
        figures
        | drop(outcomes, known[main], seed)
        | (flips(outcomes) if dataset.task == "classification" else {"flip_rate": None, "any_flip_rate": None, "mcnemar_p": None})
        | {"per_attribute": per_attribute(outcomes, known[main], seed), "per_class": per_class(outcomes, dataset)}
    )


def _number(figure: Any) -> float | None:
    """Returns a figure as JSON has it: NaN is none."""
    return None if np.isnan(figure) else float(figure)
