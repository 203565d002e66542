"""Checks samples and masks, and describes a data set."""

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..backend import Dataset
from ..decoding import UnreadableImage, list_ids
from ..errors import ItemError, UserError
from ..types import Sample
from .classes import COLUMNS

log = logging.getLogger(__name__)

MASKS_TO_LOOK_AT = 24
NAMES_TO_SHOW = 8


def check_sample(sample: Sample, dataset: Dataset) -> Image.Image:
    """Returns the image of a sample; raises an ItemError if it or the mask is wrong."""
    try:
        image = sample.image
    except Exception as error:
        raise _name_error(error, f"the image of {sample.id}") from error
    try:
        mask = sample.mask
    except Exception as error:
        raise _name_error(error, f"the mask of {sample.id}") from error
    if mask is None:
        return image
    if mask.shape[::-1] != image.size:
        raise ItemError(
            f"the mask of {sample.id} is {mask.shape[1]}x{mask.shape[0]}, its image "
            f"{image.width}x{image.height}"
        )
    if unknown := sorted(set(list_ids(mask)) - _allowed_ids(dataset)):
        raise ItemError(
            f"the mask of {sample.id} holds unknown class ids {unknown}: {dataset.name} has "
            f"0 to {len(dataset.colours) - 1}. To leave {unknown[0]} out, add "
            f"{_ignored_line(unknown[0], dataset)} to dataset.classes_file{_describe_header(dataset)}"
        )
    return image


def check_masks(samples: Sequence[Sample], dataset: Dataset) -> None:
    """Checks up to 24 masks before a run.

    Raises a UserError if all of them contain unknown class ids; the message lists the lines that the classes
    file lacks. Warns if they contain at most one scored class. `check_sample` reports damaged masks.
    """
    step = max(len(samples) // MASKS_TO_LOOK_AT, 1)
    masks = [
        mask for sample in samples[::step][:MASKS_TO_LOOK_AT] if (mask := _read_mask(sample)) is not None
    ]
    if not masks:
        return
    ids_by_mask = [set(list_ids(mask)) for mask in masks]
    allowed, counts = _allowed_ids(dataset), Counter(i for ids in ids_by_mask for i in ids)
    unknown = sorted(counts.keys() - allowed)
    if unknown and all(ids - allowed for ids in ids_by_mask):
        lines = [
            f"  {i} in {counts[i]} of {len(masks)} masks: add {_ignored_line(i, dataset)}"
            for i in unknown[:NAMES_TO_SHOW]
        ]
        raise UserError(
            f"the masks of {dataset.name} hold class ids that dataset.classes_file does not name:\n"
            + "\n".join(lines)
            + "\nThese lines leave them out of the scores. Write them into the file"
            + f"{_describe_header(dataset)}. If they stand for a class, give it that id"
        )
    if (
        len(dataset.classes) < 2 or samples[0].label is not None
    ):  # for samples with a label, masks are used for control images only
        return
    scored = sorted(counts.keys() - dataset.ignored - set(unknown))
    if len(scored) < 2:
        pixels = np.mean([np.isin(mask, list(dataset.ignored)).mean() for mask in masks])
        names = ", ".join(dataset.classes[i] for i in scored) or "no class"
        absent = [
            name for i, name in enumerate(dataset.classes) if i not in counts and i not in dataset.ignored
        ]
        log.warning(
            "In the %d masks of %s that were looked at, only %s is scored; %d %% of the pixels are ignored, "
            "and never "
            "found: %s. Do the ids of dataset.classes_file fit the masks?",
            len(masks),
            dataset.name,
            names,
            round(100 * pixels),
            _shorten(absent),
        )


def describe(dataset: Dataset, samples: Sequence[Sample]) -> str:
    """Returns a description of a data set in one line.

    For example "folder: 24 of 200 images (dataset.limit), classification into 2 classes: cat, dog". A data
    set may have an attribute `available`, the number of its samples before limits.
    """
    available = getattr(dataset, "available", None) or len(samples)
    limits = [
        f"dataset.{name}" for name in ("per_class", "limit") if getattr(dataset, name, None) is not None
    ]
    count = f"{len(samples)} image" + ("s" if len(samples) != 1 else "")
    if available > len(samples):
        count = f"{len(samples)} of {available} images" + (f" ({', '.join(limits)})" if limits else "")
    names = [name for i, name in enumerate(dataset.classes) if i not in dataset.ignored]
    ignored = len(dataset.classes) - len(names)
    more = f", {ignored} more ignored" if ignored else ""
    return f"{dataset.name}: {count}, {dataset.task} into {len(names)} classes: {_shorten(names)}{more}"


def _read_mask(sample: Sample) -> np.ndarray | None:
    try:
        return sample.mask
    except Exception:  # `check_sample` reports it
        return None


def _allowed_ids(dataset: Dataset) -> set[int]:
    return {*range(len(dataset.colours)), *dataset.ignored}


def _ignored_line(class_id: int, dataset: Dataset) -> str:
    """Returns a line for the classes file, in the columns that `_describe_header` gives it."""
    name = "void" if class_id == 255 else f"void {class_id}"
    cells = {"name": name, "id": str(class_id), "colour": "#000000", "ignore": "yes"}
    return f"`{','.join(cells[column] for column in _list_columns(dataset))}`"


def _describe_header(dataset: Dataset) -> str:
    """Returns which first line the classes file needs for `_ignored_line`; "" where it has it."""
    columns = _list_columns(dataset)
    return "" if columns == _read_columns(dataset) else f", whose first line becomes `{','.join(columns)}`"


def _list_columns(dataset: Dataset) -> list[str]:
    """Returns the columns of the classes file, and after them those that an ignored id needs."""
    columns = _read_columns(dataset)
    return columns + [column for column in ("id", "ignore") if column not in columns]


def _read_columns(dataset: Dataset) -> list[str]:
    return list(getattr(dataset, "class_columns", COLUMNS))


def _name_error(error: Exception, what: str) -> Exception:
    """Returns the error of a sample whose file could not be read."""
    if isinstance(error, UnreadableImage):
        return ItemError(f"{what} {error}")
    if isinstance(error, ItemError | MemoryError):
        return error
    return ItemError(f"{what} cannot be read: {error}")  # OSError, BadZipFile, zlib.error, ...


def _shorten(names: Sequence[str]) -> str:
    more = len(names) - NAMES_TO_SHOW
    return ", ".join(names[:NAMES_TO_SHOW]) + (f" and {more} more" if more > 0 else "")
