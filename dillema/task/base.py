"""The contract of a task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..backend import Dataset, Size
from ..types import Sample

if TYPE_CHECKING:
    from torch import Tensor

Truth = int | np.ndarray
"""What a model is held against: a class id, or class ids (height, width)."""


class Task(ABC):
    """One kind of label. Its values hold no state.

    Attributes:
        name: What results.json calls it.
        version: Raised whenever the record of a prediction changes.
        metric: The main metric, by its name in results.json; larger is better, from 0 to 1.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    metric: ClassVar[str]

    # ---- samples -------------------------------------------------------------------------------------------------

    @abstractmethod
    def check(self, sample: Sample, dataset: Dataset) -> None:
        """Raises an ItemError that says what is wrong with the label of a sample; its files can be read."""

    @abstractmethod
    def label_name(self, sample: Sample, dataset: Dataset) -> str:
        """Returns the name of the sample's class, for captions and editors; "" where it has no single one."""

    @abstractmethod
    def read_truth(self, sample: Sample, size: Size) -> Callable[[], Truth]:
        """Returns a function that reads the truth for an image of this size; it can be sent to another process."""

    @abstractmethod
    def export(self, sample: Sample, dataset: Dataset, size: Size, folder: Path, name: str) -> dict[str, Any]:
        """Writes the label files of an image called `name` below a folder; returns its columns in metadata.jsonl."""

    # ---- predictions ---------------------------------------------------------------------------------------------

    @abstractmethod
    def record(self, probabilities: "Tensor", truth: Truth, dataset: Dataset) -> dict[str, Any]:
        """Returns what is kept of one prediction, as JSON: the values of the task's columns, and `confidence`.

        `probabilities` are (classes) or (classes, height, width), over the classes of the data set. `confidence` is the
        mean probability of the true class, None where nothing is scored. Raises an ItemError where the two do not fit.
        """

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, str]:
        """Returns the columns of predictions.parquet that hold `record`, with their types in Arrow's notation."""
