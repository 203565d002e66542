"""Where the labelled samples come from, and what they are checked for before anything is made of them."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ..errors import ItemError, UserError
from ..types import Dataset, Sample

T = TypeVar("T")


def subset(items: Sequence[T], limit: int | None, seed: int) -> list[T]:
    """Returns `limit` of the items, drawn by the seed, in their order.

    Each item is ranked by a hash of itself, so a larger limit adds to the choice of a smaller one.
    """
    if limit is None:
        return list(items)
    if limit < 1:
        raise UserError(f"a data set of {limit} samples was asked for: set the limit to 1 or more, or to null for all {len(items)}")
    ranked = sorted(range(len(items)), key=lambda i: hashlib.sha256(f"{seed}/{items[i]}".encode()).digest())
    return [items[i] for i in sorted(ranked[:limit])]


def check_sample(sample: Sample, dataset: Dataset) -> None:
    """Raises an ItemError that says what is wrong with a sample's image, mask or label."""
    try:
        width, height = sample.image.size
        mask = sample.mask
    except ItemError:
        raise
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
