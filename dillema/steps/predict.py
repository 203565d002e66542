"""Asks a model under test about originals, placebos, counterfactuals and renders."""

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
from .base import Made, Step, dataset_key, made, open_image

BATCHES_PER_RECORD = 8  # batches between two commits: starting Lightning takes longer than a batch
BATCHES_PER_PROCESS = 512  # on several devices, where a process has to be started for each


@dataclass(frozen=True)
class PredictItem:
    """An image of a sample: where it lies, or what makes it.

    `content` says what sets it apart from the original.
    """

    image_id: str
    sample: Sample
    source_key: str
    read: Callable[[], Image.Image]
    content: Any


@dataclass(frozen=True)
class PredictStep(Step[PredictItem]):
    """Runs Lightning over the images of one model."""

    model: Model
    dataset: Dataset
    size: Size
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
        batches = BATCHES_PER_RECORD if self.devices == 1 else BATCHES_PER_PROCESS * self.devices
        return batches * self.model.batch_size

    def item_id(self, item: PredictItem) -> str:
        """Returns the id of the image."""
        return item.image_id

    def key(self, item: PredictItem) -> Any:
        """Returns what a prediction's record depends on."""
        task = get_task(self.dataset.task)
        return [dataset_key(self.dataset), task.version, item.source_key, list(self.size), item.content]

    def work(self, backend: Model, batch: Sequence[PredictItem]) -> Sequence[Made | Exception]:
        """Returns the records of the task."""
        from ..evaluation import evaluate

        task = get_task(self.dataset.task)
        class_map = check_classes(backend, self.dataset)
        if class_map is not None:
            # of the loaded copy: the settings stay as they are given
            backend.class_map = class_map  # type: ignore[attr-defined]
        items = [
            (str(number), item.read, task.read_truth(item.sample, self.size))
            for number, item in enumerate(batch)
        ]
        records = evaluate(backend, items, self.dataset, self.model.batch_size, self.devices)
        return made([records[str(number)] for number in range(len(batch))])


def read_file(path: Path) -> Callable[[], Image.Image]:
    """Returns a function that opens an image; it can be sent to another process."""
    return partial(open_image, path)


def read_resized(make: Callable[[], Image.Image], size: Size) -> Callable[[], Image.Image]:
    """Returns a function that makes an image of this size; it can be sent to another process."""
    return partial(_resized, make, size)


def _resized(make: Callable[[], Image.Image], size: Size) -> Image.Image:
    image = make()
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
