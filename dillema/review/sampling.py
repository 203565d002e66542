"""Chooses images so that every range of every score is judged."""

from collections.abc import Sequence

import numpy as np

BINS = 10


def choose_evenly(scores: np.ndarray, count: int, seed: int) -> list[int]:
    """Returns the rows of `scores` (images, scores) to judge, in random order; all if there are too few.

    Thresholds are learnt from images around them, wherever that is: each of BINS equal ranges of each score
    has the same chance, so that rare scores are judged as often as common ones. Images are drawn
    systematically with unequal probabilities (Madow, Annals of Mathematical Statistics 20, 1949). NaN: no
    score.
    """
    random = np.random.default_rng(seed)
    images = len(scores)
    order = random.permutation(images)
    if count >= images:
        return order.tolist()
    probability = _probabilities(_rarity(scores), count)[order]
    ends = probability.cumsum()
    ends[-1] = count  # rounding
    starts = np.concatenate([[0], ends[:-1]])
    first = random.random()
    chosen = np.floor(ends - first) > np.floor(starts - first)
    return random.permutation(order[chosen]).tolist()


def _rarity(scores: np.ndarray) -> np.ndarray:
    """Returns a size of each image: the mean over scores of 1 / images in its range of the score."""
    sizes = np.full(len(scores), 1 / (BINS * len(scores)))  # every image has some chance
    for column in scores.T:
        present = ~np.isnan(column)
        if not present.any():
            continue
        values = column[present]
        width = np.ptp(values) or 1.0
        ranges = np.minimum(((values - values.min()) / width * BINS).astype(int), BINS - 1)
        sizes[present] += 1 / np.bincount(ranges, minlength=BINS)[ranges]
    return sizes


def _probabilities(sizes: np.ndarray, count: int) -> np.ndarray:
    """Returns probabilities in proportion to sizes, at most 1, whose sum is `count`."""
    certain = np.zeros(len(sizes), bool)
    while True:
        rest = np.where(certain, 0, sizes)
        probability = np.where(certain, 1.0, rest * (count - certain.sum()) / rest.sum())
        if (probability <= 1).all():
            return probability
        certain |= probability > 1


def share_out(count: int, kinds: Sequence[str]) -> dict[str, int]:
    """Returns how many of `count` each kind gets; the first ones get one more."""
    return {kind: count // len(kinds) + (i < count % len(kinds)) for i, kind in enumerate(kinds)}
