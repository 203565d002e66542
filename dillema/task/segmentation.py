"""Semantic segmentation: a class for each pixel."""

import base64
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from PIL import Image

from .. import metrics
from ..backend import Dataset, Size
from ..errors import ItemError
from ..types import Sample
from .base import Answer, Cells, Labels, PredictionSet, Task, Truth, class_probabilities, percent

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor
    from torchvision import tv_tensors

ERROR_MAP_SIZE = (320, 320)  # at most: the images of the page are as large
UNLABELLED = 255  # the id of pixels without a class, by convention
NO_CHANGE = 0.05  # of an image's mean IoU: a smaller change is none


class Segmentation(Task):
    """Columns: `confusion`, a list of [true class, predicted class, pixels], and `error_map`.

    `confusion` has all classes, also those that are not scored, and leaves out unlabelled pixels (an ignored
    id 255). `error_map` leaves out all pixels that are not scored. Tallies: of each class the pixels that
    were predicted right, the pixels that are of it, and the pixels that were predicted as it (3 * classes).
    """

    name = "segmentation"
    version = 2
    metric = "mean_iou"
    metrics_note = "Mean IoU takes the pixels of all images together; image IoU is the mean over images."
    error_map = "error_map"
    unit = "pixels"
    outcomes: ClassVar = {
        "kept": f"the mean IoU of the image changed by less than {100 * NO_CHANGE:.0f} points",
        "worse": f"the mean IoU of the image fell by {100 * NO_CHANGE:.0f} points or more",
        "better": f"the mean IoU of the image rose by {100 * NO_CHANGE:.0f} points or more",
    }
    export_note = "`mask` (in `masks/`) holds the class id of each pixel."
    has_masks = True

    _exported: tuple[Any, bytes] = (None, b"")

    def check(self, sample: Sample, dataset: Dataset) -> None:
        """Raises an ItemError for a mask that is missing."""
        if sample.read_mask is None:
            raise ItemError(f"{sample.id} has no mask")

    def label_name(self, sample: Sample, dataset: Dataset) -> str:
        """Returns "": an image shows several classes."""
        return ""

    def read_truth(self, sample: Sample, size: Size) -> Callable[[], Truth]:
        """Returns a function that reads the mask in a size."""
        return partial(read_mask, sample, size)

    def export(self, sample: Sample, dataset: Dataset, size: Size, folder: Path, name: str) -> dict[str, Any]:
        """Writes masks/<name>.png."""
        path = folder / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._encode_mask(sample, size))
        return {"mask_file_name": f"masks/{name}.png"}

    def _encode_mask(self, sample: Sample, size: Size) -> bytes:
        """Returns the file of a mask, made once for the images of a sample, which follow each other."""
        key, (last, content) = (sample.digest, size), self._exported
        if last != key:
            file = io.BytesIO()
            Image.fromarray(read_mask(sample, size)).save(file, "PNG")
            content = file.getvalue()
            self._exported = key, content
        return content

    def transform(
        self, change: Callable[..., Any], image: "tv_tensors.Image", truth: Truth
    ) -> tuple["tv_tensors.Image", Truth]:
        """Applies a change to an image and its mask."""
        import torch
        from torchvision import tv_tensors

        changed, mask = change(image, tv_tensors.Mask(torch.from_numpy(np.array(truth))))
        return changed, mask.numpy()

    def record(self, logits: "Tensor", truth: Truth, dataset: Dataset) -> dict[str, Any]:
        """Returns the values of the columns."""
        import torch

        if truth.shape != logits.shape[1:]:
            shape = tuple(logits.shape[1:])
            raise ItemError(f"the mask has {truth.shape} rows and columns, the model's output {shape}")
        probabilities, ignored = class_probabilities(logits, dataset), sorted(dataset.ignored)
        predicted = probabilities.argmax(0).numpy()
        scored = ~np.isin(truth, ignored)
        no_class = {*range(len(dataset.classes), 256), *({UNLABELLED} & set(ignored))}
        matrix = metrics.confusion_matrix(truth, predicted, no_class)
        mask = torch.from_numpy(scored)
        ids = torch.from_numpy(truth.astype(np.int64)) * mask
        confidence = probabilities.gather(0, ids[None])[0][mask].double()
        cells = [[int(true), int(guess), int(matrix[true, guess])] for true, guess in np.argwhere(matrix)]
        return {
            "confusion": cells,
            "confidence": confidence.mean().item() if scored.any() else None,
            "error_map": draw_error_map((truth != predicted) & scored, predicted, dataset.colours),
        }

    @property
    def columns(self) -> Mapping[str, "pa.DataType"]:
        """Returns the columns with their types."""
        import pyarrow as pa

        return {"confusion": pa.list_(pa.list_(pa.int32(), 3)), "error_map": pa.binary()}

    def width(self, labels: Labels) -> int:
        """Returns three times the number of classes."""
        return 3 * len(labels.classes)

    def tallies(self, columns: Mapping[str, "pa.Array"], labels: Labels) -> np.ndarray:
        """Returns hits, true pixels and predicted pixels of each class."""
        images, classes = len(columns["confusion"]), len(labels.classes)
        cells = np.stack(self.confusion_cells(columns))
        image, true, predicted, pixels = cells[:, ~np.isin(cells[1], sorted(labels.ignored))]
        counted = ((true, pixels * (true == predicted)), (true, pixels), (predicted, pixels))
        tallies = np.empty((images, 3, classes), np.int32)
        for i, (ids, weights) in enumerate(counted):
            tallies[:, i] = np.bincount(image * classes + ids, weights, images * classes).reshape(-1, classes)
        return tallies.reshape(images, 3 * classes)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Returns the mean IoU."""
        return metrics.mean_iou_of_counts(*_split(sums))

    def metrics(self, predictions: PredictionSet) -> dict[str, float]:
        """Returns the mean IoU, the share of right pixels, and the mean over images of their own mean IoU.

        Where there are pixels of classes that are not scored, also the share of wrong pixels with these.
        """
        scored = predictions.scores[~np.isnan(predictions.scores)]
        full = predictions.full_matrix
        has_more = full.sum() > predictions.matrix.sum()
        error = {"pixel_error_all_classes": 1 - float(metrics.pixel_accuracy(full))} if has_more else {}
        return {
            "mean_iou": float(metrics.mean_iou(predictions.matrix)),
            "pixel_accuracy": float(metrics.pixel_accuracy(predictions.matrix)),
            "image_iou": float(scored.mean()) if len(scored) else float("nan"),
            **error,
        }

    def chance_score(self, predictions: PredictionSet) -> float:
        """Returns the mean IoU of predicting the class with most pixels everywhere."""
        true = predictions.matrix.sum(1)
        return float(metrics.ratio(true.max(), true.sum() * (true > 0).sum()))

    def class_scores(self, sums: np.ndarray) -> np.ndarray:
        """Returns the IoU of each class."""
        return metrics.iou_per_class(*_split(sums))

    def confusion_names(self, labels: Labels) -> Sequence[str]:
        """Returns the classes."""
        return labels.classes

    def confusion_cells(self, columns: Mapping[str, "pa.Array"]) -> Cells:
        """Returns the entries of the column `confusion`."""
        import pyarrow.compute as pc

        lists = columns["confusion"]
        cells = lists.flatten().flatten().to_numpy().reshape(-1, 3).astype(np.int64)
        return pc.list_parent_indices(lists).to_numpy(), cells[:, 0], cells[:, 1], cells[:, 2]

    def describe(self, answer: Answer, labels: Labels) -> str:
        """Returns the image's IoU and how sure the model is of the true classes."""
        iou, confidence = percent(answer.score or 0.0), percent(answer.confidence)
        return f"IoU {iou}, confidence in the true class {confidence}"

    def outcome(self, before: Answer, after: Answer) -> str:
        """Returns how the image's IoU changed."""
        change = (after.score or 0.0) - (before.score or 0.0)
        return "worse" if change <= -NO_CHANGE else "better" if change >= NO_CHANGE else "kept"

    def classes_in(self, answer: Answer) -> Sequence[int]:
        """Returns the classes that the mask shows."""
        _, true, _ = _split(answer.tallies)
        return [int(i) for i in np.flatnonzero(true)]

    def label_question(self, label: Mapping[str, Any], labels: Labels) -> str:
        """Returns a question about the mask."""
        return "Is everything that the mask labels still in its place?"

    def draw_label(
        self, label: Mapping[str, Any], folder: Path, labels: Labels
    ) -> tuple[bytes, Sequence[int]] | None:
        """Returns the mask in the colours of its classes, without ignored ones."""
        if not labels.colours:
            return None
        with Image.open(folder / label["mask_file_name"]) as file:
            mask = np.asarray(file)
        scored = ~np.isin(mask, sorted(labels.ignored))
        picture = draw_classes(scored, mask, labels.colours)
        return picture, [int(i) for i in np.unique(mask[scored])]


def read_mask(sample: Sample, size: Size) -> np.ndarray:
    """Returns the mask of a sample (height, width) in a size (width, height)."""
    mask = Image.fromarray(cast(np.ndarray, sample.mask))
    return np.asarray(mask.resize(size, Image.Resampling.NEAREST))


def draw_error_map(wrong: np.ndarray, predicted: np.ndarray, colours: Sequence[Collection[int]]) -> str:
    """Returns a PNG file, in base64, that shows where a prediction is wrong.

    There it has the colour of the predicted class; the rest is transparent.
    """
    return base64.b64encode(draw_classes(wrong, predicted, colours, ERROR_MAP_SIZE)).decode()


def draw_classes(
    shown: np.ndarray, ids: np.ndarray, colours: Sequence[Collection[int]], size: Size | None = None
) -> bytes:
    """Returns a PNG file, of `size` at most, with the colours of class ids where they are shown.

    The rest is transparent.
    """
    classes = np.unique(ids[shown])[:255]  # a palette has room for no more beside what is transparent
    entries = np.searchsorted(classes, ids) + 1
    image = Image.fromarray(np.where(shown, entries, 0).astype(np.uint8))
    image.putpalette([0, 0, 0, *(value for i in classes for value in colours[i])])
    if size:
        image.thumbnail(size, Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    return file.getvalue()


def _split(tallies: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns hits, true pixels and predicted pixels, each (..., classes), of tallies (..., 3 * classes)."""
    hits, true, predicted = np.moveaxis(tallies.reshape(*tallies.shape[:-1], 3, -1), -2, 0)
    return hits, true, predicted


TASK = Segmentation()
