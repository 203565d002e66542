"""Classification: one class an image."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from .. import metrics
from ..backend import Dataset, Size
from ..errors import ItemError
from ..types import Sample
from .base import Answer, Cells, Labels, PredictionSet, Task, Truth, class_probabilities, percent

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

FOLDER_BYTES = 200  # of a class folder's name: file systems allow 255, the class id follows


class Classification(Task):
    """Columns: `label`, `predicted`, `top5` (class ids, best first), `certainty` (that of `predicted`).

    Tallies: right, among the best five, and 1.
    """

    name = "classification"
    version = 1
    metric = "accuracy"
    values = ("label", "predicted", "certainty")
    outcomes: ClassVar = {
        "kept": "right on both images",
        "flipped": "right on the original, wrong on the counterfactual",
        "corrected": "wrong on the original, right on the counterfactual",
        "wrong on both": "wrong on both images",
    }
    export_note = (
        "`label` is the class id, `label_name` its name. `images/` has a folder for each class, as "
        "`torchvision.datasets.ImageFolder` reads them; that numbers the folders in the order of their names."
    )

    def check(self, sample: Sample, dataset: Dataset) -> None:
        """Raises an ItemError for a label that is missing or out of range."""
        if sample.label is None or not 0 <= sample.label < len(dataset.classes):
            last = len(dataset.classes) - 1
            raise ItemError(f"the label of {sample.id} is {sample.label}: {dataset.name} has 0 to {last}")

    def label_name(self, sample: Sample, dataset: Dataset) -> str:
        """Returns the name of the sample's class."""
        return "" if sample.label is None else dataset.classes[sample.label]

    def read_truth(self, sample: Sample, size: Size) -> Callable[[], Truth]:
        """Returns a function that returns the class id."""
        return partial(_read_label, int(cast(int, sample.label)))  # it may be a number of numpy

    def export(self, sample: Sample, dataset: Dataset, size: Size, folder: Path, name: str) -> dict[str, Any]:
        """Writes no file: the label is a column."""
        return {"label": int(cast(int, sample.label)), "label_name": self.label_name(sample, dataset)}

    def export_folder(self, sample: Sample, dataset: Dataset) -> str:
        """Returns the name of the class; with its id where that name cannot be a folder's."""
        name = self.label_name(sample, dataset)
        safe_name = re.sub(r"[^\w ,'()&+.-]", "_", name).encode()
        folder = safe_name[:FOLDER_BYTES].decode(errors="ignore").strip(" .")
        return name if name and folder == name else f"{folder}_{sample.label}"

    def record(self, logits: "Tensor", truth: Truth, dataset: Dataset) -> dict[str, Any]:
        """Returns the values of the columns."""
        if logits.ndim != 1:
            shape = tuple(logits.shape)
            raise ItemError(
                f"the model's output is of shape {shape}: classification needs one number a class"
            )
        probabilities = class_probabilities(logits, dataset)
        best_probabilities, best = probabilities.topk(min(5, len(probabilities)))
        return {
            "label": truth,
            "predicted": best[0].item(),
            "certainty": best_probabilities[0].item(),
            "confidence": probabilities[truth].item(),
            "top5": best.tolist(),
        }

    @property
    def columns(self) -> Mapping[str, "pa.DataType"]:
        """Returns the columns with their types."""
        import pyarrow as pa

        number = pa.int32()
        return {"label": number, "predicted": number, "certainty": pa.float64(), "top5": pa.list_(number)}

    def width(self, labels: Labels) -> int:
        """Returns 3."""
        return 3

    def tallies(self, columns: Mapping[str, "pa.Array"], labels: Labels) -> np.ndarray:
        """Returns right, among the best five, and 1."""
        import pyarrow.compute as pc

        label, predicted = (columns[name].to_numpy(zero_copy_only=False) for name in ("label", "predicted"))
        images = pc.list_parent_indices(columns["top5"]).to_numpy()
        hits = columns["top5"].flatten().to_numpy() == label[images]
        among = np.bincount(images, hits, len(label)) > 0
        return np.stack([label == predicted, among, np.ones(len(label), bool)], 1).astype(np.int32)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Returns the accuracy."""
        return metrics.ratio(sums[..., 0], sums[..., 2])

    def metrics(self, predictions: PredictionSet) -> dict[str, float]:
        """Returns accuracies, macro averages and the expected calibration error."""
        right, among, images = predictions.sums
        values = predictions.values
        correct = values["label"] == values["predicted"]
        return {
            "accuracy": float(right / images),
            "top5_accuracy": float(among / images),
            **metrics.macro_averages(predictions.matrix),
            "calibration_error": metrics.calibration_error(values["certainty"], correct),
        }

    def chance_score(self, predictions: PredictionSet) -> float:
        """Returns the share of the most common class."""
        return float(predictions.matrix.sum(1).max() / predictions.matrix.sum())

    def is_correct(self, tallies: np.ndarray) -> np.ndarray:
        """Returns whether the best class is the true one."""
        return tallies[..., 0] == 1

    def image_classes(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the label of each image."""
        return values["label"]

    def confusion_names(self, labels: Labels) -> Sequence[str]:
        """Returns the classes."""
        return labels.classes

    def confusion_cells(self, columns: Mapping[str, "pa.Array"]) -> Cells:
        """Returns one entry an image."""
        label, predicted = (columns[name].to_numpy(zero_copy_only=False) for name in ("label", "predicted"))
        return np.arange(len(label)), label, predicted, np.ones(len(label))

    def describe(self, answer: Answer, labels: Labels) -> str:
        """Returns the predicted class and how sure the model is of the true one."""
        label, predicted = int(answer.values["label"]), int(answer.values["predicted"])
        confidence = percent(answer.confidence)
        if predicted == label:
            return f"{labels.classes[predicted]}, confidence {confidence}"
        return f"{labels.classes[predicted]} (wrong), confidence in {labels.classes[label]} {confidence}"

    def outcome(self, before: Answer, after: Answer) -> str:
        """Returns how right and wrong changed."""
        right_before, right_after = (a.values["label"] == a.values["predicted"] for a in (before, after))
        if right_before:
            return "kept" if right_after else "flipped"
        return "corrected" if right_after else "wrong on both"

    def classes_in(self, answer: Answer) -> Sequence[int]:
        """Returns the label."""
        return [int(answer.values["label"])]

    def label_question(self, label: Mapping[str, Any], labels: Labels) -> str:
        """Returns a question with the name of the class."""
        return f"Does it still show: {labels.classes[label['label']]}?"


def _read_label(label: int) -> int:
    return label


TASK = Classification()
