"""Pairs of images of the same sources, and the drop of the main metric from one to the other."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..metrics import ratio
from ..predictions import Predictions
from .intervals import (
    ENOUGH_GROUPS,
    add_up,
    assign_units,
    bootstrap_interval,
    randomisation_test,
    to_number,
)


class PairedTallies:
    """Pairs of rows, `before` and `after`, and the tallies of both sides summed for each bootstrap unit.

    Attributes:
        sources: The number of sources.
        groups: The number of groups of sources.
        group: The group of each pair, numbered from 0.
        images: The number of pairs of each group.
        sums: For each side, the tallies of each unit and two more columns: the sum and the count of
            confidences.
    """

    def __init__(self, predictions: Predictions, before: np.ndarray, after: np.ndarray, seed: int) -> None:
        self.predictions, self.before, self.after, self.seed = predictions, before, after, seed
        source = predictions.source[after]
        self.sources = int((np.diff(source, prepend=-1) != 0).sum())
        present, self.group = np.unique(predictions.group[source], return_inverse=True)
        self.groups = len(present)
        self.images = np.bincount(self.group, minlength=self.groups)
        unit = assign_units(self.groups, seed)[self.group]
        order = np.argsort(unit, kind="stable")
        starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
        scored = ~np.isnan(predictions.confidence[before] + predictions.confidence[after])
        self.sums = []
        for rows in (before, after):
            confidence = np.stack([np.where(scored, predictions.confidence[rows], 0), scored], 1)[order]
            confidence_sums = np.add.reduceat(confidence, starts, axis=0)
            self.sums.append(np.hstack([add_up(predictions.tallies, rows, unit), confidence_sums]))

    def select(self, pairs: np.ndarray) -> "PairedTallies":
        """Returns the pairs with these indices, in the given order."""
        return PairedTallies(self.predictions, self.before[pairs], self.after[pairs], self.seed)

    def split_by_edits(self, combinations: Mapping[Any, list[int]]) -> Iterator[tuple[Any, "PairedTallies"]]:
        """Yields each name with the pairs that have one of its combinations of edits."""
        codes = self.predictions.combination[self.after]
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(self.predictions.combinations) + 1))
        for name, listed in sorted(combinations.items()):
            pairs = np.sort(np.concatenate([order[starts[i] : starts[i + 1]] for i in listed]))
            if len(pairs):
                yield name, self.select(pairs)

    def figure(self, sums: np.ndarray) -> np.ndarray:
        """Returns the main metric and the mean confidence in the true class (..., 2)."""
        score = self.predictions.task.score(sums[..., :-2])
        return np.stack([score, ratio(sums[..., -2], sums[..., -1])], -1)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the interval of the drop of each figure; NaN for a single group."""
        if self.groups < 2:
            return np.full(2, np.nan), np.full(2, np.nan)
        return bootstrap_interval(
            self.sums, lambda before, after: self.figure(before) - self.figure(after), self.seed
        )

    @property
    def rough(self) -> bool:
        """Returns whether there are too few groups for a reliable interval."""
        return bool(self.images.sum() ** 2 < ENOUGH_GROUPS * (self.images**2).sum())

    def effect(self) -> dict[str, Any]:
        """Returns the drops of the main metric (with its p) and the mean confidence, with intervals."""
        before, after = (self.figure(side.sum(0)) for side in self.sums)
        drop, (low, high) = before - after, self.bounds()
        p = np.nan
        if self.groups > 1:
            first, second = self.sums
            p = randomisation_test(first, second, lambda sums: self.figure(sums)[..., :1], self.seed)[0]
        return {
            "n": len(self.after),
            "sources": self.sources,
            "groups": self.groups,
            "drop": to_number(drop[0]),
            "low": to_number(low[0]),
            "high": to_number(high[0]),
            "rough": self.rough,
            "p": to_number(p),
            "confidence_drop": to_number(drop[1]),
            "confidence_low": to_number(low[1]),
            "confidence_high": to_number(high[1]),
        }
