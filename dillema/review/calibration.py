"""Finds the thresholds of a run's gates, and the weights of their combination, from the answers of raters."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isinf
from typing import Any

import numpy as np

from ..backend import Gate, Threshold
from ..errors import UserError
from ..statistics.calibration import Controls, Fit, find_threshold, fit, rates
from ..statistics.intervals import wilson_interval
from ..steps.verdict import verdict
from ..types import COUNTERFACTUAL
from .answers import Answer
from .items import KNOWN, Review, score_table

FEWEST_IMAGES = 30  # judged ones: fewer say nothing about a precision of 0.95
POINTS = 8  # of a curve, each for as many judged images
STEPS = 60  # of a curve
POPULATION = 5_000  # images of a run that precision and recall are computed on: a random part of a larger one
BOTH = "both"


@dataclass(frozen=True)
class Votes:
    """What raters said about one question.

    Attributes:
        items: The judged counterfactuals.
        votes: 1 or 0, NaN for "cannot tell" and for no answer (items, raters).
        controls: The same for controls.
    """

    items: list[int]
    votes: np.ndarray
    controls: Controls


@dataclass(frozen=True)
class Score:
    """A score with a threshold: its name, "<gate>.<score>", and its column in the table of scores."""

    gate: str
    name: str
    threshold: Threshold
    column: int


class Calibration:
    """The answers of a review beside the scores of its run."""

    def __init__(
        self, review: Review, answers: Sequence[Answer], gates: Sequence[Gate], wanted: float, seed: int
    ) -> None:
        self.review, self.wanted, self.seed = review, wanted, seed
        self.images = list(review.images.values())
        names = [
            (gate.name, f"{gate.name}.{score}", threshold)
            for gate in gates
            for score, threshold in getattr(gate, "thresholds", {}).items()
        ]
        self.scores = score_table(self.images, [name for _, name, _ in names])
        self.measured = [
            Score(*name, column)
            for column, name in enumerate(names)
            if np.isfinite(self.scores[:, column]).any() and np.nanstd(self.scores[:, column]) > 0
        ]
        self.row_of_image = {image.id: row for row, image in enumerate(self.images)}
        order = np.random.default_rng(seed).permutation(len(self.images))
        self.population = np.sort(order[:POPULATION])
        self._votes = {question: _collect(review, answers, question) for question in ("label", "edit", BOTH)}

    def calibrate(self, score: Score) -> dict[str, Any]:
        """Returns the figures of one score, about the question that it speaks for."""
        values = self.scores[self.population, score.column]
        values = values[np.isfinite(values)]
        votes = self._votes[score.threshold.about]
        fitted = self._fit([score.column], votes)
        row: dict[str, Any] = {"gate": score.gate, "score": score.name, "about": score.threshold.about}
        row |= {"setting": f"validity.{score.gate}.{score.threshold.setting}"}
        if fitted is None:
            return row | {"images": len(self._judged([score.column], votes)), "threshold": None}
        model, items = fitted
        probability = model.probability(values[:, None])
        return row | self._describe(values, probability, model, items, [score.column])

    def rate_gate(self, gate: Gate) -> dict[str, Any]:
        """Returns the figures of the verdict of a gate, with its thresholds as they are.

        The verdict is a score of the model beside those of the gate: good images below a threshold are then
        counted as raters saw them, not as a curve goes on.
        """
        scores = [score for score in self.measured if score.gate == gate.name]
        about = {score.threshold.about for score in scores}
        question = about.pop() if len(about) == 1 else BOTH
        passes = np.array([verdict([gate], image.verdict.scores).valid for image in self.images])
        self.scores = np.column_stack([self.scores, passes])
        columns = [*(score.column for score in scores), self.scores.shape[1] - 1]
        votes = self._votes[question]
        row = {"gate": gate.name, "about": question, "images": len(self._judged(columns, votes))}
        fitted = self._fit(columns, votes)
        if fitted is None:
            return row
        probability = fitted[0].probability(self.scores[self.population][:, columns])
        valid = passes[self.population]
        return row | {"passed": float(valid.mean())} | rates(valid, probability)

    def combine(self) -> tuple[dict[str, Any], Fit | None, np.ndarray | None]:
        """Returns the figures of the combination of all scores, its model, and its probabilities by draw."""
        columns = [score.column for score in self.measured]
        fitted = self._fit(columns, self._votes[BOTH]) if columns else None
        row: dict[str, Any] = {"gate": "combination", "score": "combination.probability", "about": BOTH}
        row |= {"setting": "validity.combination.min_probability"}
        if fitted is None:
            return row | {"images": 0, "threshold": None}, None, None
        model, items = fitted
        probability = model.probability(self.scores[self.population][:, columns])
        row |= self._describe(probability, probability, model, items, columns)
        weights = zip(
            (score.name for score in self.measured), model.coefficients[0, 1:].tolist(), strict=True
        )
        row |= {"weights": dict(weights)}
        return row, model, probability

    def _describe(
        self,
        values: np.ndarray,
        probability: np.ndarray,
        model: Fit,
        items: list[int],
        columns: list[int],
    ) -> dict[str, Any]:
        """Returns threshold, rates and curve of the values of all images, (images) or (draws, images)."""
        threshold = find_threshold(values, probability, self.wanted)
        own = values if values.ndim == 1 else values[0]
        judged = self.scores[[self._row(item) for item in items]][:, columns]
        judged_probability = model.probability(judged)[0]
        judged_values = judged_probability if values.ndim == 2 else judged[:, 0]
        above = judged_values >= threshold.value
        row: dict[str, Any] = {"images": len(items), "threshold": _finite(threshold.value)}
        row |= {"low": _finite(threshold.low), "high": _finite(threshold.high)}
        row |= rates(own >= threshold.value, probability)
        row |= {"passed": float((own >= threshold.value).mean()), "judged_above": int(above.sum())}
        row |= {"fits": _fits(model.posterior[above], judged_probability[above])}
        row |= {"curve": _curve(own, probability)}
        return row | {"points": _points(judged_values, model.posterior)}

    def _fit(self, columns: list[int], votes: Votes) -> tuple[Fit, list[int]] | None:
        """Returns the model of scores and the items it was fitted to; None for too few or equal answers."""
        items = self._judged(columns, votes)
        if len(items) < FEWEST_IMAGES:
            return None
        chosen = votes.votes[[votes.items.index(item) for item in items]]
        if np.nanmin(chosen) == np.nanmax(chosen):
            return None
        scores = self.scores[[self._row(item) for item in items]][:, columns]
        population = self.scores[self.population][:, columns]
        groups = [self.review.groups[item] for item in items]
        return fit(scores, chosen, groups, population, votes.controls, self.seed), items

    def _judged(self, columns: list[int], votes: Votes) -> list[int]:
        """Returns the judged items that have any of some scores and an answer."""
        has_vote = np.isfinite(votes.votes).any(1)
        return [
            item
            for item, voted in zip(votes.items, has_vote, strict=True)
            if voted and np.isfinite(self.scores[self._row(item)][columns]).any()
        ]

    def _row(self, item: int) -> int:
        return self.row_of_image[self.review.items[item].image]


def check_enough(review: Review, answers: Sequence[Answer]) -> None:
    """Raises a UserError if too few images were judged to learn thresholds from."""
    judged = {a.item for a in answers if review.items[a.item].kind == COUNTERFACTUAL}
    if len(judged) < FEWEST_IMAGES:
        raise UserError(
            f"only {len(judged)} generated images were judged by raters who pass the controls; calibration "
            f"needs {FEWEST_IMAGES} or more. Go on with job=review run={review.folder.path}"
        )


def round_down(threshold: float) -> float:
    """Returns a threshold with four digits that lets through what it let through before."""
    return floor(threshold * 1e4) / 1e4


def _collect(review: Review, answers: Sequence[Answer], question: str) -> Votes:
    """Returns the votes on a question; on BOTH, an image is good if the label and the edit are there."""
    raters = {rater: column for column, rater in enumerate(sorted({answer.rater for answer in answers}))}
    rows: dict[int, np.ndarray] = {}
    for answer in answers:
        row = rows.setdefault(answer.item, np.full(len(raters), np.nan))
        row[raters[answer.rater]] = _vote(answer, question)
    items = [item for item in sorted(rows) if review.items[item].kind == COUNTERFACTUAL]
    known = {item: truth for item in rows if (truth := _truth(review.items[item].kind, question)) is not None}
    shape = (-1, len(raters))
    controls = Controls(
        np.array([rows[item] for item in known]).reshape(shape), np.array(list(known.values()), float)
    )
    return Votes(items, np.array([rows[item] for item in items]).reshape(shape), controls)


def _vote(answer: Answer, question: str) -> float:
    said = [answer.label, answer.edit] if question == BOTH else [getattr(answer, question)]
    return 0.0 if "no" in said else 1.0 if set(said) == {"yes"} else np.nan


def _truth(kind: str, question: str) -> float | None:
    """Returns whether a control is good, 1 or 0; None if that is not known."""
    known = KNOWN.get(kind, {})
    if question == BOTH:
        return 0.0 if "no" in known.values() else None
    return {"yes": 1.0, "no": 0.0}.get(known.get(question, ""))


def _fits(posterior: np.ndarray, predicted: np.ndarray) -> bool:
    """Returns whether the model predicts what raters said about the images above a threshold."""
    if not len(posterior):
        return True
    low, high = wilson_interval(float(posterior.mean()), len(posterior))
    return bool(low <= predicted.mean() <= high)


def _curve(values: np.ndarray, probability: np.ndarray) -> list[dict[str, float | None]]:
    """Returns precision and recall along the thresholds."""
    thresholds = np.unique(np.quantile(values, np.linspace(0, 0.99, STEPS)))
    curve: list[dict[str, float | None]] = []
    for threshold in thresholds.tolist():
        figures = rates(values >= threshold, probability)
        precision, recall = figures["precision"], figures["recall"]
        point = {"precision": precision["mean"], "low": precision["low"], "high": precision["high"]}
        curve.append({"threshold": threshold} | point | {"recall": recall["mean"]})
    return curve


def _points(values: np.ndarray, posterior: np.ndarray) -> list[dict[str, float]]:
    """Returns the share of good images among judged ones of about the same score."""
    points = []
    for rows in np.array_split(np.argsort(values, kind="stable"), POINTS):
        if not len(rows):
            continue
        share = float(posterior[rows].mean())
        low, high = wilson_interval(share, len(rows))
        points.append({"value": float(values[rows].mean()), "good": share, "low": low, "high": high})
    return points


def _finite(value: float) -> float | None:
    return None if isinf(value) else value
