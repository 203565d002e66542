"""Turns the scores of the gates into a verdict."""

from collections.abc import Mapping, Sequence

from ..backend import CLASS_SCORE, Gate
from ..types import Verdict

FAILED = "failed"  # the score, 1.0, of an image that a gate could not score


def verdict(gates: Sequence[Gate], scores: Mapping[str, float]) -> Verdict:
    """Returns the verdict of gates on one image; the keys of `scores` are "<gate>.<score>".

    An image counts when no gate has a reason against it; that a gate failed to score it is a reason. It is
    checked when a gate gave it a score or a reason. A gate with `combines`, the names of other gates, judges
    all scores in the place of those.
    """
    combined = {name for gate in gates for name in getattr(gate, "combines", ())}
    reasons: list[str] = []
    is_scored = False
    for gate in gates:
        prefix = f"{gate.name}."
        values = {
            name.removeprefix(prefix): value for name, value in scores.items() if name.startswith(prefix)
        }
        is_scored |= bool(values)
        if hasattr(gate, "combines"):
            reasons += _list_reasons(gate, {**scores, **values})
        elif values.get(FAILED) or gate.name not in combined:
            reasons += _list_reasons(gate, values)
    return Verdict(dict(scores), tuple(reasons), checked=is_scored or bool(reasons))


def _list_reasons(gate: Gate, values: Mapping[str, float]) -> Sequence[str]:
    """Returns the reasons of a gate against an image; each begins with the name of the gate."""
    if values.get(FAILED):
        return [f"{gate.name}: could not be scored"]
    try:
        reasons: list[str] | str = gate.reasons(values)
        reasons = [reasons] if isinstance(reasons, str) else reasons  # of a gate of the user's: one reason
        return [f"{gate.name}: {reason}" for reason in reasons]
    except Exception as error:  # of a gate of the user's that needs a score which is left out
        return [f"{gate.name}: could not be judged by its scores ({error!r})"]


def list_scores(gate: Gate, classes: Sequence[str]) -> list[str]:
    """Returns the names of the scores that a gate may give to images of a data set with these classes."""
    of_classes = (
        [f"{CLASS_SCORE}{name}" for name in classes] if getattr(gate, "scores_classes", False) else []
    )
    return [*gate.scores, *of_classes]


def score_names(gates: Sequence[Gate], classes: Sequence[str]) -> list[str]:
    """Returns the names of all scores of gates: the columns of predictions.parquet."""
    return [f"{gate.name}.{score}" for gate in gates for score in (*list_scores(gate, classes), FAILED)]
