"""Reads every sample once, so that damaged ones are out before anything is made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image

from ..backend import Dataset, Size
from ..dataset import check_sample
from ..task import get_task
from ..types import Sample
from .base import Made, Step, dataset_key


@dataclass(frozen=True)
class SourceStep(Step[Sample]):
    """Makes the original as models see it.

    As large as generated images, or a drop would hold what the size does.
    """

    dataset: Dataset
    size: Size

    name: ClassVar[str] = "source"
    version: ClassVar[int] = 1
    images: ClassVar[bool] = True

    def item_id(self, item: Sample) -> str:
        """Returns the id of the sample."""
        return item.id

    def key(self, item: Sample) -> Any:
        """Returns what the original depends on: the sample's files and label, the task, and the size."""
        return [
            dataset_key(self.dataset),
            get_task(self.dataset.task).version,
            sample_content(item),
            list(self.size),
        ]

    def work(self, backend: None, batch: Sequence[Sample]) -> Sequence[Made | Exception]:
        """Returns the resized originals; raises an ItemError for a sample that cannot be used."""
        results: list[Made | Exception] = []
        task = get_task(self.dataset.task)
        for sample in batch:
            check_sample(sample, self.dataset)
            task.check(sample, self.dataset)
            image = sample.image
            if image.size != self.size:
                image = image.resize(self.size, Image.Resampling.LANCZOS)
            results.append(Made(image=image))
        return results


def sample_content(sample: Sample) -> str:
    """Returns a hash of a sample's label and files, or that they cannot be read."""
    try:
        return sample.digest
    except Exception:  # what is wrong is found, and recorded, when the item is worked on
        return f"{sample.id} cannot be read"
