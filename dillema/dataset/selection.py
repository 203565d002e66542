"""Draws samples of a data set, and splits them into two parts."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

from ..errors import UserError
from ..types import Sample

T = TypeVar("T")


def subset(
    items: Sequence[T],
    limit: int | None,
    seed: int,
    per_class: int | None = None,
    labels: Sequence[Hashable] = (),
) -> list[T]:
    """Returns `limit` of the items, drawn by the seed, in their order.

    `per_class` first limits the items of each label. Items are ranked by a hash of themselves, so a larger
    limit keeps all items of a smaller one.
    """
    indices = list(range(len(items)))
    if per_class is not None:
        indices_by_label = defaultdict(list)
        for index, label in zip(indices, labels, strict=True):
            indices_by_label[label].append(index)
        drawn = (_draw(items, group, per_class, seed) for group in indices_by_label.values())
        indices = sorted(index for group in drawn for index in group)
    if limit is not None:
        indices = sorted(_draw(items, indices, limit, seed))
    return [items[index] for index in indices]


def split(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Returns the samples of two parts; the second has a fraction of the groups, drawn by the seed.

    A sample without a group is a group of its own. Raises a UserError for fewer than two groups.
    """
    groups = sorted({sample.group or sample.id for sample in samples})
    if len(groups) < 2:
        raise UserError(
            f"the {len(samples)} samples of the data set belong to {len(groups)} group, and cannot be split "
            "into one "
            "part to train on and another to test on: raise dataset.limit, or choose data of several "
            "sequences"
        )
    count = min(max(round(fraction * len(groups)), 1), len(groups) - 1)
    second_groups = set(subset(groups, count, seed))
    parts: tuple[list[Sample], list[Sample]] = [], []
    for sample in samples:
        parts[(sample.group or sample.id) in second_groups].append(sample)
    return parts


def _draw(items: Sequence[T], indices: Sequence[int], count: int, seed: int) -> list[int]:
    if count < 1:
        raise UserError(
            f"a data set of {count} samples was asked for: set dataset.limit and dataset.per_class to 1 or "
            "more, or to "
            "null for all"
        )

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{seed}/{items[index]}".encode("utf-8", "surrogateescape")).digest()

    return sorted(indices, key=rank)[:count]
