"""Compares estimated drops with true drops on renders, for data sets that can render edited scenes."""

from typing import Any

import numpy as np

from ..predictions import COUNTERFACTUAL, TRUTH, Predictions
from .comparison import common_indices, compare_sums, join_texts
from .effect_model import EffectModel
from .intervals import rank_correlation, to_number
from .paired import PairedTallies
from .summary import combinations_by_edit


def truth(predictions: Predictions, seed: int) -> dict[str, Any] | None:
    """Returns the drop on valid counterfactuals and the drop on renders of the same scenes.

    None without renders. `error` is the estimated minus the true drop, with its interval. Over the edits, it
    has the mean absolute error and the rank correlation of estimated and true drops, and of the effects of
    the values by themselves.
    """
    pairs = [predictions.pairs(kind, valid=True) for kind in (COUNTERFACTUAL, TRUTH)]
    chosen = common_indices(*(join_texts(predictions.image[after]) for _, after in pairs))
    if not len(chosen[0]):
        return None
    estimated, true = (
        PairedTallies(predictions, before[rows], after[rows], seed)
        for (before, after), rows in zip(pairs, chosen, strict=True)
    )
    edits = combinations_by_edit(predictions)
    models = [EffectModel(predictions, seed, kind) for kind in (COUNTERFACTUAL, TRUTH)]
    table = []
    parts = zip(estimated.split_by_edits(edits), true.split_by_edits(edits), strict=True)
    for ((attribute, original, replacement), first), (_, second) in parts:
        effect, true_effect = (model.effect((attribute, replacement))["effect"] for model in models)
        row = {"attribute": attribute, "from": original, "to": replacement} | _figures(first, second)
        table.append(row | {"effect": effect, "true_effect": true_effect})
    effects = {(row["attribute"], row["to"]): row for row in table}.values()  # one row a value
    return (
        _figures(estimated, true)
        | _agreement([(row["estimated"], row["true"]) for row in table])
        | {
            f"effect_{name}": value
            for name, value in _agreement([(r["effect"], r["true_effect"]) for r in effects]).items()
        }
        | {"per_attribute": table}
    )


def _figures(estimated: PairedTallies, true: PairedTallies) -> dict[str, Any]:
    drop = compare_sums(estimated, true)["drop"]
    return {
        "n": len(estimated.after),
        "sources": estimated.sources,
        "groups": estimated.groups,
        "estimated": drop["a"],
        "true": drop["b"],
        "error": drop["difference"],
        "low": drop["low"],
        "high": drop["high"],
        "rough": estimated.rough,
    }


def _agreement(rows: list[tuple[float | None, float | None]]) -> dict[str, float | None]:
    """Returns the mean absolute error and the rank correlation of estimated and true figures."""
    pairs = np.array([row for row in rows if None not in row], float).reshape(-1, 2).T
    figures: dict[str, float | None] = {"mean_absolute_error": None, "rank_correlation": None}
    if pairs.size:
        figures["mean_absolute_error"] = to_number(np.abs(pairs[0] - pairs[1]).mean())
    if pairs.size > 2 and np.ptp(pairs, 1).all():  # a constant has no correlation
        figures["rank_correlation"] = to_number(rank_correlation(*pairs))
    return figures
