"""The semantic mask and the fine structure of the image in one control image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from ..backend import Dataset, Size
from ..fields import Weight
from ..types import Control, Sample
from .segmentation import checked_mask

NEIGHBOURHOOD = 4.0  # pixels: standard deviation of the Gaussian mean that luminance is compared with
OCTAVES = 1.5  # a pixel that is this much brighter than its neighbourhood is 255, one that is darker 0
DARKEST = 0.02  # of the brightest: is added to luminance, so that noise in the dark is no structure
NO_DETAIL = 128


@dataclass
class SegmentationDetail:
    """The class of each pixel in red and green, and its local contrast in blue.

    The local contrast is luminance in relation to its neighbourhood, so that the level of light, fog and the
    colours of surfaces are left to the caption (single-scale retinex, Jobson et al., 1997). The edges of
    shadows stay in it: a ControlNet must have been trained to ignore them.

    Attributes:
        weight: The weight of the control image.
    """

    weight: Weight = 1.0

    name: ClassVar[str] = "segmentation_detail"
    batch_size: ClassVar[int] = 1
    needs_masks: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def load(self) -> None:
        """Does nothing: there is no model."""

    def control(self, sample: Sample, dataset: Dataset, size: Size) -> Control:
        """Returns classes and local contrast, of the image and the mask at `size`.

        Raises a UserError for a sample without a mask, an ItemError for class ids that the data set does not
        have.
        """
        mask = Image.fromarray(checked_mask(sample, dataset, self.name))
        mask = mask.resize(size, Image.Resampling.NEAREST)
        image = sample.image.resize(size, Image.Resampling.LANCZOS)
        codes = class_codes(len(dataset.colours))[np.asarray(mask)]
        return Control(Image.fromarray(np.dstack([codes, local_contrast(np.asarray(image))])), self.weight)


def class_codes(count: int) -> np.ndarray:
    """Returns red and green of each class id (256, 2), uint8: `count` points on the smallest square grid.

    Ids from `count` on, which are not scored, have the code of class 0.
    """
    side = max(int(np.ceil(np.sqrt(count))), 2)
    ids = np.arange(256)
    ids[count:] = 0
    cells = np.stack([ids // side, ids % side], 1)
    return np.round(cells * (255 / (side - 1))).astype(np.uint8)


def local_contrast(image: np.ndarray) -> np.ndarray:
    """Returns how bright each pixel of an RGB image is in its neighbourhood (height, width), uint8."""
    import cv2

    luminance = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 + DARKEST
    octaves = np.log2(luminance / cv2.GaussianBlur(luminance, (0, 0), NEIGHBOURHOOD))
    contrast: np.ndarray = np.clip(NO_DETAIL + 127 * octaves / OCTAVES, 0, 255).round().astype(np.uint8)
    return contrast
