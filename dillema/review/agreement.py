"""How far raters agree with each other, with what is known of the controls, and with the gates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from ..statistics.agreement import Ratings, cohen_kappa, fleiss_kappa
from ..statistics.intervals import wilson_interval
from ..types import COUNTERFACTUAL
from .answers import CHOICES, REALISM, Answer
from .items import KNOWN, Review

MAX_FAILED_CONTROLS = 0.25  # share of the known answers that a rater may miss
QUESTIONS: Mapping[str, Sequence[Any]] = {"real": REALISM, "label": CHOICES, "edit": CHOICES}


def summarise_answers(review: Review, answers: Sequence[Answer], seed: int) -> dict[str, Any]:
    """Returns the figures of a review.

    `raters` has for each rater how many images were judged, how many known answers of controls were missed,
    and whether that is too many (`failed`); `kappa` and `pairs` the agreement of all raters and of each two
    by question; `gates` that of the gates with the majority of the raters who did not fail; `real` how real
    images of each kind look.
    """
    raters = check_raters(review, answers)
    trusted = [answer for answer in answers if not raters[answer.rater]["failed"]]
    return {
        "review": review.id,
        "items": len(review.items),
        "raters": raters,
        "kappa": {name: _kappa_of_all(review, answers, name, seed) for name in QUESTIONS},
        "pairs": _pairs(review, answers, seed),
        "gates": _gates(review, trusted, seed),
        "real": _realism(review, trusted),
    }


def check_raters(review: Review, answers: Sequence[Answer]) -> dict[str, dict[str, Any]]:
    """Returns for each rater the answers, the known answers, those that were missed, and whether it failed.

    "Cannot tell" misses a known answer.
    """
    raters: dict[str, dict[str, Any]] = {}
    for answer in answers:
        row = raters.setdefault(answer.rater, {"answers": 0, "known": 0, "missed": 0})
        row["answers"] += 1
        for question, right in KNOWN.get(review.items[answer.item].kind, {}).items():
            row["known"] += 1
            row["missed"] += getattr(answer, question) != right
    for row in raters.values():
        row["failed"] = row["missed"] > MAX_FAILED_CONTROLS * row["known"]
    return raters


def collect(review: Review, answers: Sequence[Answer], question: str, kind: str | None = None) -> Ratings:
    """Returns the answers to a question by item and rater; with `kind` those about items of that kind."""
    ratings: dict[int, dict[str, Any]] = {}
    for answer in answers:
        if kind is None or review.items[answer.item].kind == kind:
            ratings.setdefault(answer.item, {})[answer.rater] = getattr(answer, question)
    return ratings


def majority(ratings: Mapping[str, str]) -> str | None:
    """Returns what most raters say, "yes" or "no"; None if neither has more."""
    counts = Counter(ratings.values())
    yes, no = counts["yes"], counts["no"]
    return None if yes == no else "yes" if yes > no else "no"


def _kappa_of_all(review: Review, answers: Sequence[Answer], question: str, seed: int) -> dict[str, Any]:
    ratings, groups = collect(review, answers, question), dict(enumerate(review.groups))
    return fleiss_kappa(ratings, QUESTIONS[question], groups, seed, ordered=question == "real")


def _pairs(review: Review, answers: Sequence[Answer], seed: int) -> list[dict[str, Any]]:
    """Returns Cohen's kappa of each two raters for each question."""
    rows = []
    for question, categories in QUESTIONS.items():
        ratings = collect(review, answers, question)
        for first, second in combinations(sorted({answer.rater for answer in answers}), 2):
            items = [item for item, values in ratings.items() if first in values and second in values]
            pairs = [(ratings[item][first], ratings[item][second]) for item in items]
            groups = [review.groups[item] for item in items]
            figures = cohen_kappa(pairs, categories, groups, seed, ordered=question == "real")
            rows.append({"question": question, "a": first, "b": second} | figures)
    return rows


def _gates(review: Review, answers: Sequence[Answer], seed: int) -> list[dict[str, Any]]:
    """Returns how far each gate agrees with the majority of raters about the label and about the edit."""
    rows = []
    for question in ("label", "edit"):
        ratings = collect(review, answers, question, COUNTERFACTUAL)
        said = {item: answer for item, values in ratings.items() if (answer := majority(values))}
        for gate in review.folder.results["gates"]:
            pairs = [(_gate_answer(review, item, gate), answer) for item, answer in said.items()]
            figures = cohen_kappa(pairs, ("yes", "no"), [review.groups[item] for item in said], seed)
            agreed = sum(gate_answer == answer for gate_answer, answer in pairs)
            share = agreed / len(pairs) if pairs else None
            low, high = wilson_interval(share, len(pairs)) if share is not None else (None, None)
            agreement = {"agreement": share, "agreement_low": low, "agreement_high": high}
            rows.append({"gate": gate, "question": question} | agreement | figures)
    return rows


def _gate_answer(review: Review, item: int, gate: str) -> str:
    """Returns whether a gate lets an image through."""
    reasons = review.images[review.items[item].image].verdict.reasons
    return "no" if any(reason.startswith(f"{gate}: ") for reason in reasons) else "yes"


def _realism(review: Review, answers: Sequence[Answer]) -> dict[str, dict[str, float]]:
    """Returns the mean answer to how real an image looks, for each kind of image."""
    values: dict[str, list[int]] = {}
    for answer in answers:
        values.setdefault(review.items[answer.item].kind, []).append(answer.real)
    return {kind: {"answers": len(row), "mean": sum(row) / len(row)} for kind, row in sorted(values.items())}
