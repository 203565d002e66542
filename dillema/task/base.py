"""The contract of a task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from ..backend import Dataset, Size
from ..errors import ItemError, UserError
from ..types import Sample

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor
    from torchvision import tv_tensors

Truth = Any
"""The label that a prediction is compared with: a class id, class ids (height, width), boxes."""

Cells = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Entries of confusion matrices: index of the image, true class, predicted class, and count."""


class Labels(Protocol):
    """The part of a data set that a run folder keeps, and that is needed to read predictions."""

    @property
    def name(self) -> str:
        """Returns the name of the data set."""
        ...

    @property
    def task(self) -> str:
        """Returns the name of the task, for `get_task`."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Returns the names of the classes, by class id."""
        ...

    @property
    def colours(self) -> Sequence[Sequence[int]]:
        """Returns the colour of each class, RGB of 0 to 255; empty for a data set without masks."""
        ...

    @property
    def ignored(self) -> Collection[int]:
        """Returns the class ids that are not scored."""
        ...


@dataclass(frozen=True)
class Answer:
    """One prediction, as a page shows it.

    Attributes:
        confidence: Mean probability of the true class; None if nothing is scored.
        score: The main metric of this image alone; None if it has none.
        tallies: Its tallies (width).
        values: Its values in the columns that `Task.values` names.
    """

    confidence: float | None
    score: float | None
    tallies: np.ndarray
    values: Mapping[str, Any]


@dataclass(frozen=True)
class PredictionSet:
    """The predictions of one model on a set of images, in the form that the metrics of a task need.

    Attributes:
        sums: The tallies of all images, added up (width).
        scores: The main metric of each image alone (images), NaN for images that have none.
        values: The columns that `Task.values` names, one entry an image.
        matrix: The confusion matrix of all images, (0, 0) for a task that has none; rows of classes that are
            not scored are 0.
        full_matrix: The same, with these rows.
    """

    sums: np.ndarray
    scores: np.ndarray
    values: Mapping[str, np.ndarray]
    matrix: np.ndarray
    full_matrix: np.ndarray


class Task(ABC):
    """One kind of label. A task has no state.

    Statistics know a task by its tallies: integers of each image that add up over images, so that any group
    of images and any bootstrap is a sum. The main metric is a function of sums of tallies.

    Attributes:
        name: Its name in results.json.
        version: Raise it whenever the record of a prediction changes.
        metric: The main metric, by its name in results.json; larger is better, from 0 to 1.
        metrics_note: One sentence for pages that explains the metrics; "" if their names are enough.
        values: Columns of predictions.parquet whose values are held in memory, one a prediction.
        error_map: The binary column with pictures (PNG) that show where a prediction is wrong; "" if there
            is none.
        unit: What the confusion matrix counts, in the plural.
        outcomes: The words that `outcome` returns, each with its meaning.
        export_note: One sentence for the README.md of a generated set that explains what `export` writes.
        has_masks: Whether each sample has a mask, with which a gate can compare its images.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    metric: ClassVar[str]
    metrics_note: ClassVar[str] = ""
    values: ClassVar[tuple[str, ...]] = ()
    error_map: ClassVar[str] = ""
    unit: ClassVar[str] = "images"
    outcomes: ClassVar[Mapping[str, str]]
    export_note: ClassVar[str] = ""
    has_masks: ClassVar[bool] = False

    # ---- samples
    # -------------------------------------------------------------------------------------------------

    @abstractmethod
    def check(self, sample: Sample, dataset: Dataset) -> None:
        """Raises an ItemError if the label of a sample is wrong; the files of the sample are readable."""

    @abstractmethod
    def label_name(self, sample: Sample, dataset: Dataset) -> str:
        """Returns the name of the sample's class, for captions and editors; "" if it has no single class."""

    @abstractmethod
    def read_truth(self, sample: Sample, size: Size) -> Callable[[], Truth]:
        """Returns a function that reads the truth for an image of this size; it can be pickled."""

    @abstractmethod
    def export(self, sample: Sample, dataset: Dataset, size: Size, folder: Path, name: str) -> dict[str, Any]:
        """Writes the label files of an image called `name`; returns its columns in metadata.jsonl."""

    def export_folder(self, sample: Sample, dataset: Dataset) -> str:
        """Returns the folder of a sample's images in a generated set; "" for none."""
        return ""

    # ---- training
    # ------------------------------------------------------------------------------------------------

    def transform(
        self, change: Callable[..., Any], image: "tv_tensors.Image", truth: Truth
    ) -> tuple["tv_tensors.Image", Truth]:
        """Applies a transform of torchvision.transforms.v2 to an image, and to a truth with positions."""
        return change(image), truth

    def loss(
        self, logits: "Tensor | Sequence[Tensor]", truths: Sequence[Truth], ignored: Collection[int]
    ) -> "Tensor":
        """Returns the cross-entropy of a batch over the scored classes that the model has."""
        import torch
        from torch.nn import functional

        if len({tuple(output.shape) for output in logits}) == 1:
            stacked = logits if isinstance(logits, torch.Tensor) else torch.stack(list(logits))
            truth = np.stack(truths)
        else:  # images of several sizes: every pixel is an item
            stacked = torch.cat([output.flatten(1).T for output in logits])
            truth = np.concatenate([np.ravel(part) for part in truths])
        targets = torch.from_numpy(truth.astype(np.int64)).to(stacked.device)
        left_out = torch.isin(targets, torch.tensor(sorted(ignored), dtype=torch.long, device=targets.device))
        scored = (targets < stacked.shape[1]) & ~left_out
        total = functional.cross_entropy(stacked, targets.where(scored, -100), reduction="sum")
        return total / scored.sum().clamp_min(1)

    # ---- predictions
    # ---------------------------------------------------------------------------------------------

    @abstractmethod
    def record(self, logits: "Tensor", truth: Truth, dataset: Dataset) -> dict[str, Any]:
        """Returns the stored form of one prediction, as JSON: the values of `columns`, and `confidence`.

        `logits` is the output of the model for the image. `confidence` is the mean probability of the true
        class, or None if nothing is scored. A value of a binary column is base64 text. Raises an ItemError
        if logits and truth do not fit or logits are NaN, and a UserError if the model does not fit the data
        set.
        """

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, "pa.DataType"]:
        """Returns the columns of predictions.parquet for `record`, except `confidence`, with their types."""

    # ---- figures
    # -------------------------------------------------------------------------------------------------

    @abstractmethod
    def width(self, labels: Labels) -> int:
        """Returns how many tallies an image has."""

    @abstractmethod
    def tallies(self, columns: Mapping[str, "pa.Array"], labels: Labels) -> np.ndarray:
        """Returns the tallies of images (images, width), integers, from the values of `columns`."""

    @abstractmethod
    def score(self, sums: np.ndarray) -> np.ndarray:
        """Returns the main metric of each sum of tallies (..., width); NaN if nothing is scored."""

    @abstractmethod
    def metrics(self, predictions: PredictionSet) -> dict[str, float]:
        """Returns all metrics of a set of images, the main one first; NaN for metrics without a value."""

    @abstractmethod
    def chance_score(self, predictions: PredictionSet) -> float:
        """Returns the main metric of always predicting the most frequent class; NaN if undefined."""

    def is_correct(self, tallies: np.ndarray) -> np.ndarray | None:
        """Returns whether each prediction (images, width) is correct; None if the task has no such notion."""
        return None

    def class_scores(self, sums: np.ndarray) -> np.ndarray | None:
        """Returns the metric of each class (..., classes), from sums of tallies.

        A class without true samples is NaN. None if the tallies do not hold classes; figures are then
        grouped by `image_classes`.
        """
        return None

    def image_classes(self, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Returns the class id of each image, if an image has one class and `class_scores` is None."""
        return None

    def confusion_names(self, labels: Labels) -> Sequence[str]:
        """Returns the names of the rows of the confusion matrix; empty for a task that has none."""
        return ()

    def confusion_cells(self, columns: Mapping[str, "pa.Array"]) -> Cells:
        """Returns the entries of the confusion matrices of images, if there are `confusion_names`."""
        raise NotImplementedError

    # ---- words and pictures
    # --------------------------------------------------------------------------------------

    @abstractmethod
    def describe(self, answer: Answer, labels: Labels) -> str:
        """Returns the prediction of a model on an image in a few words."""

    @abstractmethod
    def outcome(self, before: Answer, after: Answer) -> str:
        """Returns the word, of `outcomes`, for the change from an original to its counterfactual."""

    @abstractmethod
    def classes_in(self, answer: Answer) -> Sequence[int]:
        """Returns the class ids that an image shows."""

    def label_question(self, label: Mapping[str, Any], labels: Labels) -> str:
        """Returns what raters are asked about a label, of which they see the columns that `export` wrote."""
        return "Does it still show what the original is labelled as?"

    def draw_label(
        self, label: Mapping[str, Any], folder: Path, labels: Labels
    ) -> tuple[bytes, Sequence[int]] | None:
        """Returns a picture (PNG, transparent where nothing is labelled) and the ids of the classes in it.

        `label` holds the columns that `export` wrote, `folder` the files that they name. None if the label
        has no places in the image.
        """
        return None


def class_probabilities(logits: "Tensor", dataset: Dataset) -> "Tensor":
    """Returns the probabilities of the data set's classes (classes, ...).

    Classes that the model does not have get 0. Raises an ItemError for logits that are not finite, and a
    UserError if the model has more classes than the data set.
    """
    import torch

    classes = len(dataset.classes)
    if len(logits) > classes:
        raise UserError(
            f"it has {len(logits)} classes, {dataset.name} has {classes}; give model.class_map, which maps "
            "the model's class ids to the data set's"
        )
    if not logits.isfinite().all():
        raise ItemError("the model's output holds values that are no finite numbers")
    probabilities = logits.softmax(0)
    return torch.cat([probabilities, probabilities.new_zeros(classes - len(logits), *logits.shape[1:])])


def percent(share: float | None) -> str:
    """Returns a share as a page shows it."""
    return "-" if share is None else f"{100 * share:.1f} %"
