"""Where the labelled samples come from, and what they are checked for before anything is made of them."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
from PIL import UnidentifiedImageError

from ..errors import ItemError, UserError
from ..types import Dataset, Sample

T = TypeVar("T")


def subset(items: Sequence[T], limit: int | None, seed: int, per_class: int | None = None, labels: Sequence[Hashable] = ()) -> list[T]:
    """Returns `limit` of the items, drawn by the seed, in their order; `per_class` first draws that many with each of the labels.

    Each item is ranked by a hash of itself, so a larger limit adds to the choice of a smaller one.
    """
    places = list(range(len(items)))
    if per_class is not None:
        groups = defaultdict(list)
        for place, label in zip(places, labels, strict=True):
            groups[label].append(place)
        places = sorted(place for group in groups.values() for place in _drawn(items, group, per_class, seed))
    if limit is not None:
        places = sorted(_drawn(items, places, limit, seed))
    return [items[place] for place in places]


def _drawn(items: Sequence[T], places: Sequence[int], count: int, seed: int) -> list[int]:
    if count < 1:
        raise UserError(f"a data set of {count} samples was asked for: set dataset.limit and dataset.per_class to 1 or more, or to null for all")
    return sorted(places, key=lambda place: hashlib.sha256(f"{seed}/{items[place]}".encode()).digest())[:count]


def split(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Returns the samples of two parts, the second with a fraction of the groups, drawn by the seed; a sample without a group is one of its own.

    Raises a UserError for fewer than two groups.
    """
    groups = sorted({sample.group or sample.id for sample in samples})
    if len(groups) < 2:
        raise UserError(
            f"the {len(samples)} samples of the data set belong to {len(groups)} group, and cannot be split into one part to train on and another to test on: "
            "raise dataset.limit, or choose data of several sequences"
        )
    held = set(subset(groups, min(max(round(fraction * len(groups)), 1), len(groups) - 1), seed))
    parts: tuple[list[Sample], list[Sample]] = [], []
    for sample in samples:
        parts[(sample.group or sample.id) in held].append(sample)
    return parts


def check_sample(sample: Sample, dataset: Dataset) -> None:
    """Raises an ItemError that says what is wrong with a sample's image, mask or label."""
    try:
        width, height = sample.image.size
        mask = sample.mask
    except ItemError:
        raise
    except UnidentifiedImageError as error:  # its own words name an object in memory
        raise ItemError(f"a file of {sample.id} cannot be read: it is damaged, or no image") from error
    except Exception as error:  # damaged files fail in many ways: OSError, SyntaxError, BadZipFile, zlib.error
        raise ItemError(f"a file of {sample.id} cannot be read: {error}") from error
    if mask is not None:
        if mask.shape != (height, width):
            raise ItemError(f"the mask of {sample.id} is {mask.shape[1]}x{mask.shape[0]}, its image {width}x{height}")
        unknown = sorted({int(i) for i in np.unique(mask)} - set(range(len(dataset.colours))) - dataset.ignored)
        if unknown:
            raise ItemError(f"the mask of {sample.id} holds unknown class ids {unknown}: {dataset.name} has 0 to {len(dataset.colours) - 1}")
    elif dataset.task == "segmentation":
        raise ItemError(f"{sample.id} has no mask")
    if dataset.task == "classification" and (sample.label is None or not 0 <= sample.label < len(dataset.classes)):
        raise ItemError(f"the label of {sample.id} is {sample.label}: {dataset.name} has 0 to {len(dataset.classes) - 1}")
