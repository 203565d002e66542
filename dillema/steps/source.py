"""Reads every sample once, so that damaged samples fail before any other step."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image

from ..backend import Dataset
from ..dataset import check_sample
from ..errors import UserError
from ..image_size import ImageSize
from ..task import get_task
from ..types import Sample
from .base import Step, StepResult, dataset_key

SAFE_ID = re.compile(r"\w[\w.-]*")  # ids become file names


@dataclass(frozen=True)
class SourceStep(Step[Sample]):
    """Makes the original as models see it: at the size of generated images.

    With another size, a drop would contain the effect of the size.
    """

    dataset: Dataset
    size: ImageSize

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
            self.size.key,
        ]

    def work(self, backend: None, batch: Sequence[Sample]) -> Sequence[StepResult | Exception]:
        """Returns the resized originals; raises an ItemError for a sample that cannot be used."""
        results: list[StepResult | Exception] = []
        task = get_task(self.dataset.task)
        for sample in batch:
            task.check(sample, self.dataset)
            image = check_sample(sample, self.dataset)
            size = self.size.of(image.size)
            if image.size != size:
                image = image.resize(size, Image.Resampling.LANCZOS)
            results.append(StepResult(image=image))
        return results


def sample_content(sample: Sample) -> str:
    """Returns a hash of a sample's label and files, or a text if they cannot be read."""
    try:
        return sample.digest
    except Exception:  # `work` meets the same error and records it
        return f"{sample.id} cannot be read"


def read_samples(dataset: Dataset) -> list[Sample]:
    """Returns the samples of a data set; raises a UserError for anything else that it returns."""
    samples: Any = dataset.samples()
    name = f"{type(dataset).__module__}.{type(dataset).__qualname__}"
    if not isinstance(samples, Sequence):
        raise UserError(f"{name}.samples() must return a list of samples, not {samples!r:.200}")
    if not samples:
        raise UserError(f"{name}.samples() returned no sample")
    for sample in samples:
        if not isinstance(sample, Sample):
            raise UserError(
                f"{name}.samples() must return samples (dillema.types.Sample), not {sample!r:.200}"
            )
        texts = (sample.id, sample.group)
        if not all(isinstance(text, str) for text in texts) or not isinstance(sample.attributes, Mapping):
            raise UserError(
                f"{name}.samples(): a sample's id and group must be texts, and its attributes a mapping, not "
                f"id={sample.id!r:.60}, group={sample.group!r:.60}, attributes={sample.attributes!r:.60}"
            )
    return list(samples)


def sort_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Returns the samples by id; raises a UserError for ids that are repeated or cannot be file names."""
    ids: set[str] = set()
    for sample in samples:
        if not SAFE_ID.fullmatch(sample.id):
            raise UserError(
                f"the data set has a sample called {sample.id!r}: ids name files, "
                "so they may only hold letters, digits, '_', '-' and '.'"
            )
        if sample.id in ids:
            raise UserError(f"the data set has two samples called {sample.id}: ids must be unique")
        ids.add(sample.id)
    return sorted(samples, key=lambda sample: sample.id)
