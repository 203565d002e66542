"""Canny edges as a control image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from ..types import Control, Dataset, Sample


@dataclass
class Canny:
    """White edges on black (Canny, 1986), found with two thresholds on the gradient (0 to 255 grey levels)."""

    low: float = 100
    high: float = 200
    weight: float = 1.0

    name: ClassVar[str] = "canny"
    transient: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ()

    def load(self) -> None:
        """Does nothing: there is no model."""

    def control(self, sample: Sample, dataset: Dataset, size: tuple[int, int]) -> Control:
        """Returns the edges of the image at `size` (width, height), so that they are as thin as the ControlNet expects."""
        import cv2

        grey = np.asarray(sample.image.resize(size, Image.Resampling.LANCZOS).convert("L"))
        edges = cv2.Canny(grey, self.low, self.high)
        return Control(Image.fromarray(edges).convert("RGB"), self.weight)
