"""The generated image must not be black, flat or blurred."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from ..backend import Dataset, Threshold
from ..fields import BatchSize, Share, Transient
from ..types import Counterfactual, Sample
from . import below

SIDE = 256
"""Pixels of the longer side at which images are measured, so that sharpness does not depend on their size."""


@dataclass
class ImageGate:
    """Measures the grey values of an image, from 0 to 1, without any model.

    `brightness` is their mean, `contrast` their standard deviation, and `sharpness` the standard deviation of
    their Laplacian. Pipelines of diffusers return black pixels for NaN, and black images for those that
    their safety checker flags; the lowest brightness finds both.
    """

    name: Transient[str] = "image"
    min_brightness: Transient[Share] = 0.01
    min_contrast: Transient[Share] = 0.02
    min_sharpness: Transient[Share] = 0.015
    batch_size: BatchSize = 32

    version: ClassVar[int] = 1
    scores: ClassVar[tuple[str, ...]] = ("brightness", "contrast", "sharpness")
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "brightness": Threshold("min_brightness", "label"),
        "contrast": Threshold("min_contrast", "label"),
        "sharpness": Threshold("min_sharpness", "label"),
    }

    def load(self) -> None:
        """Does nothing: there is no model."""

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float]]:
        """Returns the three scores of each image."""
        return [_measure(image) for image in images]

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns the scores that are too low."""
        return [
            *below(scores, "brightness", self.min_brightness, "brightness"),
            *below(scores, "contrast", self.min_contrast, "contrast"),
            *below(scores, "sharpness", self.min_sharpness, "sharpness"),
        ]


def _measure(image: Image.Image) -> dict[str, float]:
    import cv2

    factor = SIDE / max(image.size)
    size = max(round(image.width * factor), 1), max(round(image.height * factor), 1)
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.float32) / 255
    laplacian = cv2.Laplacian(grey, cv2.CV_32F)
    return {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "sharpness": float(laplacian.std()),
    }
