"""Depth as a control image."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from .. import hub
from ..backend import Dataset, Size
from ..errors import ItemError, UserError
from ..fields import Transient, Weight, Weights
from ..types import Control, Sample

NEAREST = (
    1.0  # metres: the camera of a car sees nothing nearer, and one wrong pixel would make all others black
)

ALTERNATIVE = "conditioning=canny"


@dataclass
class Depth:
    """Depth as a network of transformers estimates it: the nearest point white, the farthest black.

    Attributes:
        model: A folder or a hub id, of a network whose values grow as things come nearer (Depth Anything,
            MiDaS), as the published depth ControlNets expect.
        weight: Of the control image.
    """

    model: Weights[str]
    weight: Weight = 1.0
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"

    name: ClassVar[str] = "depth"
    batch_size: ClassVar[int] = 1
    version: ClassVar[int] = 1

    def load(self) -> None:
        """Loads the network and its image processor."""
        import transformers

        network = transformers.AutoModelForDepthEstimation
        self._processor = hub.load(transformers.AutoImageProcessor, self.model, ALTERNATIVE)
        self._network = hub.network(network, self.model, ALTERNATIVE, self.device, self.dtype)

    def control(self, sample: Sample, dataset: Dataset, size: Size) -> Control:
        """Returns the depth at `size`; the network sees the image in its own proportions."""
        import torch

        pixels = self._processor(sample.image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            output = self._network(pixels.to(self._network.device, self._network.dtype))
        depth = output.predicted_depth.float()
        depth = torch.nn.functional.interpolate(depth[:, None], size[::-1], mode="bicubic")[0, 0]
        return Control(_grey(depth.cpu().numpy()), self.weight)


@dataclass
class DatasetDepth:
    """Depth as the data set gives it: the nearest point white, the farthest black.

    Grey is the reciprocal of the distance, as in the control image of `Depth`.

    Attributes:
        weight: Of the control image.
    """

    weight: Weight = 1.0

    name: ClassVar[str] = "depth"
    batch_size: ClassVar[int] = 1
    version: ClassVar[int] = 1

    def load(self) -> None:
        """Does nothing: there is no model."""

    def content(self, sample: Sample) -> str:
        """Returns a hash of what is read of a sample besides its image and mask."""
        return hashlib.sha256(self._metres(sample).tobytes()).hexdigest()

    def control(self, sample: Sample, dataset: Dataset, size: Size) -> Control:
        """Returns the depth at `size`.

        Raises a UserError for a data set without depth, an ItemError for a sample whose depth is missing or
        cannot be read.
        """
        nearness = Image.fromarray(1 / np.maximum(self._metres(sample), NEAREST))
        return Control(_grey(np.asarray(nearness.resize(size, Image.Resampling.BILINEAR))), self.weight)

    def _metres(self, sample: Sample) -> np.ndarray:
        if sample.read_depth is None:
            raise UserError(
                f"conditioning=dataset_depth: the data set has no depth for {sample.id}. "
                "SHIFT has it, in its group depth, beside img and semseg; "
                "conditioning=depth estimates it from the image"
            )
        try:
            return sample.read_depth()
        except ItemError:
            raise
        except Exception as error:  # damaged files fail in many ways
            raise ItemError(f"the depth of {sample.id} cannot be read: {error}") from error


def _grey(nearness: np.ndarray) -> Image.Image:
    """Returns an image whose smallest value is black and whose largest is white."""
    low, high = nearness.min(), nearness.max()
    grey = 255 * (nearness - low) / max(high - low, 1e-6)
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
