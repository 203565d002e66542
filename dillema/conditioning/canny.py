"""Canny edges as a control image."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image

from ..backend import Dataset, Size
from ..fields import Constraint, Weight
from ..types import Control, Sample

Gradient = Annotated[float, Constraint("of at least 0", lambda value: value >= 0)]


@dataclass
class Canny:
    """White edges on black (Canny, 1986).

    Attributes:
        low: The lowest gradient, in grey levels, of a pixel that continues an edge.
        high: The lowest gradient of a pixel that starts an edge.
        weight: The weight of the control image.
    """

    low: Gradient = 100
    high: Gradient = 200
    weight: Weight = 1.0

    name: ClassVar[str] = "canny"
    batch_size: ClassVar[int] = 1
    version: ClassVar[int] = 1

    def load(self) -> None:
        """Does nothing: there is no model."""

    def control(self, sample: Sample, dataset: Dataset, size: Size) -> Control:
        """Returns the edges, of the image at `size`, so that they are as thin as the ControlNet expects."""
        import cv2

        grey = np.asarray(sample.image.resize(size, Image.Resampling.LANCZOS).convert("L"))
        edges = cv2.Canny(grey, self.low, self.high)
        return Control(Image.fromarray(edges).convert("RGB"), self.weight)
