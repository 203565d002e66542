"""Separates the effect of an edit from that of the generator, and decides whether it is harmful.

The same generator paints the placebo from the unchanged caption. The drop from the original to the placebo is
the effect of the generator; the drop from the placebo to the counterfactual is the effect of the edits.
`dillema.statistics.effect_model` separates the edits of the same images.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..predictions import COUNTERFACTUAL, PLACEBO, Predictions
from .intervals import LEVEL, MIN_GROUPS, ROUNDING, benjamini_hochberg, to_number
from .paired import PairedTallies

EDIT_FIGURES = ("edit_n", "edit_drop", "edit_low", "edit_high", "edit_p")


class PlaceboComparison:
    """Counterfactuals compared with the placebos of their sources."""

    def __init__(self, predictions: Predictions, seed: int, *, valid: bool) -> None:
        self.predictions, self.seed = predictions, seed
        self.placebo_row = np.full(len(predictions.image), -1)
        placebos, counterfactuals = predictions.pairs(COUNTERFACTUAL, valid, reference=PLACEBO)
        self.placebo_row[counterfactuals] = placebos
        self.originals, self.placebos = predictions.pairs(PLACEBO, valid)
        self.computed: dict[bytes, dict[str, Any]] = {}

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

    def effects(self, pairs: PairedTallies) -> dict[str, Any]:
        """Returns the effect of pairs of originals and counterfactuals, and that of their edits.

        Computed once for equal pairs: most values replace one value only.
        """
        key = pairs.after.tobytes()
        if key not in self.computed:
            self.computed[key] = pairs.effect() | self.edit_effect(pairs.after)
        return dict(self.computed[key])

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
    """Returns rows with `harm_p`, `harm_p_adjusted` and `harmful`.

    An edit is harmful if its images lose more than the placebos of the same samples, and if the edit by
    itself costs something. Both tests are one-sided, because only a drop is harm. `harm_p` is the larger of
    the two p values (an intersection-union test; Berger, Technometrics 24, 1982); where the model gives no
    effect, it is that of the drop beyond the placebo. It is adjusted for the number of rows by Benjamini and
    Hochberg, because what is reported is the list of harmful edits, and this bounds the share of wrong ones
    in it. An edit whose adjusted p is below 1 - LEVEL passes each of the two tests, adjusted alone.

    `harmful` is False over fewer than MIN_GROUPS groups of sources. It is None if there is no placebo, or if
    the effect cannot be separated from that of edits that always occur with it.
    """
    p_values = [_harm_p(row) for row in rows]
    adjusted, of_drops = (benjamini_hochberg(p) for p in (p_values, [row["edit_p"] for row in rows]))
    judged = []
    for row, p, p_adjusted, p_of_drop in zip(rows, p_values, adjusted, of_drops, strict=True):
        harmful: bool | None = None
        if row["edit_drop"] is not None:
            is_significant = p_adjusted is not None and p_adjusted < 1 - LEVEL
            exceeds = is_significant and row["edit_drop"] > 0 and row["groups"] >= MIN_GROUPS
            is_mixed = "effect" in row and row["effect"] is None
            harmful = False if not exceeds else None if is_mixed else row.get("effect", 1.0) > ROUNDING
        figures = {"edit_p_adjusted": p_of_drop, "harm_p": p, "harm_p_adjusted": p_adjusted}
        judged.append(row | figures | {"harmful": harmful})
    return judged


def _harm_p(row: Mapping[str, Any]) -> float | None:
    if row["edit_p"] is None:
        return None
    # the randomisation test is symmetric: a side is half of it
    p_of_drop: float = row["edit_p"] / 2 if row["edit_drop"] > 0 else 1 - row["edit_p"] / 2
    return p_of_drop if row.get("effect_p") is None else max(p_of_drop, row["effect_p"])
