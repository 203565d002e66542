"""A captioner outside the package."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dillema.backend import Dataset
from dillema.fields import BatchSize
from dillema.types import Caption, Sample


@dataclass
class PlainCaptioner:
    """Names the weather and the time of day of a sample."""

    ending: str = "on a street"
    batch_size: BatchSize = 16

    version: ClassVar[int] = 1

    def load(self) -> None:
        """Does nothing: there is no model."""

    def caption(
        self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]
    ) -> Sequence[Caption | Exception]:
        """Returns one caption a sample."""
        return [
            Caption(f"a {sample.attributes['weather']} {sample.attributes['time of day']} {self.ending}")
            for sample in samples
        ]
