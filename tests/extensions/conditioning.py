"""A conditioning outside the package."""

from dataclasses import dataclass
from typing import ClassVar

from PIL import ImageOps

from dillema.backend import Dataset, Size
from dillema.fields import AboveZero
from dillema.types import Control, Sample


@dataclass
class Inverted:
    """The image in inverted colours."""

    weight: AboveZero = 1.0

    name: ClassVar[str] = "inverted"
    batch_size: ClassVar[int] = 1
    version: ClassVar[int] = 1

    def load(self) -> None:
        """Does nothing: there is no model."""

    def control(self, sample: Sample, dataset: Dataset, size: Size) -> Control:
        """Returns the control image of a sample."""
        return Control(ImageOps.invert(sample.image.resize(size)), self.weight)
