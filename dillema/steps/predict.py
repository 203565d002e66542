"""Runs a model under test on originals, placebos, counterfactuals and renders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from ..backend import Dataset, Model, Size
from ..model.classes import check_classes
from ..task import get_task
from ..types import Sample
from .base import Step, StepResult, dataset_key, open_image, wrap_results

BATCHES_PER_COMMIT = 8  # because starting Lightning takes longer than a batch
BATCHES_PER_PROCESS = 512  # on several devices, where a process must be started for each commit


@dataclass(frozen=True)
class PredictItem:
    """An image of a sample that a model predicts.

    Attributes:
        read: Reads or renders the image.
        content: What distinguishes the image from the original of the sample, as JSON.
        size: The size of the image.
    """

    image_id: str
    sample: Sample
    source_key: str
    read: Callable[[], Image.Image]
    content: Any
    size: Size


@dataclass(frozen=True)
class PredictStep(Step[PredictItem]):
    """Runs one model on images with Lightning."""

    model: Model
    dataset: Dataset
    devices: int = 1

    name: ClassVar[str] = "predict"
    version: ClassVar[int] = 1

    @property
    def backend(self) -> Model:
        """Returns the model under test."""
        return self.model

    @property
    def batch_size(self) -> int:
        """Returns how many images are predicted between two commits."""
        batches = BATCHES_PER_COMMIT if self.devices == 1 else BATCHES_PER_PROCESS * self.devices
        return batches * self.model.batch_size

    def item_id(self, item: PredictItem) -> str:
        """Returns the id of the image."""
        return item.image_id

    def key(self, item: PredictItem) -> Any:
        """Returns what a prediction depends on."""
        task = get_task(self.dataset.task)
        return [dataset_key(self.dataset), task.version, item.source_key, list(item.size), item.content]

    def work(self, backend: Model, batch: Sequence[PredictItem]) -> Sequence[StepResult | Exception]:
        """Returns the records of the task."""
        from ..evaluation import evaluate

        task = get_task(self.dataset.task)
        class_map = check_classes(backend, self.dataset)
        if class_map is not None:
            # only the loaded copy changes: the settings stay as they were given
            backend.class_map = class_map  # type: ignore[attr-defined]
        items = [
            (str(index), item.read, task.read_truth(item.sample, item.size))
            for index, item in enumerate(batch)
        ]
        records = evaluate(backend, items, self.dataset, self.model.batch_size, self.devices)
        return wrap_results([records[str(index)] for index in range(len(batch))])


def read_file(path: Path) -> Callable[[], Image.Image]:
    """Returns a function that opens an image; the function can be pickled."""
    return partial(open_image, path)


def read_resized(make: Callable[[], Image.Image], size: Size) -> Callable[[], Image.Image]:
    """Returns a function that makes an image and resizes it; the function can be pickled."""
    return partial(_resized, make, size)


def _resized(make: Callable[[], Image.Image], size: Size) -> Image.Image:
    image = make()
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
