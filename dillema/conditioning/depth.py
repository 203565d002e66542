"""Depth as a control image."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from .. import hub
from ..errors import ItemError, UserError
from ..types import Control, Dataset, Sample

NEAREST = 1.0  # metres: no camera of a car sees anything nearer, but a wrong pixel would make all else black


@dataclass
class Depth:
    """Depth as a network of transformers estimates it: the nearest point white, the farthest black.

    `model` is a folder or a hub id, of a network whose values grow as things come nearer (Depth Anything, MiDaS), as the
    published depth ControlNets expect.
    """

    model: str
    weight: float = 1.0
    dtype: hub.DType = "float32"
    device: str = "auto"

    name: ClassVar[str] = "depth"
    transient: ClassVar[tuple[str, ...]] = ("device",)
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("model",)

    def load(self) -> None:
        """Loads the network and its image processor."""
        import transformers

        instead = "conditioning=canny"
        self._processor = hub.load(transformers.AutoImageProcessor, self.model, instead)
        self._network = hub.network(transformers.AutoModelForDepthEstimation, self.model, instead, self.device, self.dtype)

    def control(self, sample: Sample, dataset: Dataset, size: tuple[int, int]) -> Control:
        """Returns the depth at `size` (width, height); the network sees the image in its own proportions."""
        import torch

        pixels = self._processor(sample.image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            depth = self._network(pixels.to(self._network.device, self._network.dtype)).predicted_depth.float()
        depth = torch.nn.functional.interpolate(depth[:, None], size[::-1], mode="bicubic")[0, 0]
        return Control(_grey(depth.cpu().numpy()), self.weight)


@dataclass
class DatasetDepth:
    """Depth as the data set gives it: the nearest point white, the farthest black, and grey as the reciprocal of the distance, like `Depth`."""

    weight: float = 1.0

    name: ClassVar[str] = "depth"
    transient: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ()

    def load(self) -> None:
        """Does nothing: there is no model."""

    def content(self, sample: Sample) -> str:
        """Returns a hash of what is read of a sample besides its image and mask."""
        return hashlib.sha256(self._metres(sample).tobytes()).hexdigest()

    def control(self, sample: Sample, dataset: Dataset, size: tuple[int, int]) -> Control:
        """Returns the depth at `size` (width, height).

        Raises a UserError for a data set without depth, an ItemError for a sample whose depth is missing or cannot be read.
        """
        nearness = Image.fromarray(1 / np.maximum(self._metres(sample), NEAREST))
        return Control(_grey(np.asarray(nearness.resize(size, Image.Resampling.BILINEAR))), self.weight)

    def _metres(self, sample: Sample) -> np.ndarray:
        if sample.read_depth is None:
            raise UserError(
                f"conditioning=dataset_depth: there is no depth to {sample.id}. Of the data sets SHIFT has it, in its group depth, beside img and semseg; "
                "conditioning=depth estimates it from the image"
            )
        try:
            return sample.read_depth()
        except ItemError:
            raise
        except Exception as error:  # as other files, damaged ones fail in many ways
            raise ItemError(f"the depth of {sample.id} cannot be read: {error}") from error


def _grey(nearness: np.ndarray) -> Image.Image:
    """Returns the smallest value as black and the largest as white; a flat image has no range, and is black."""
    low, high = nearness.min(), nearness.max()
    return Image.fromarray((255 * (nearness - low) / max(high - low, 1e-6)).astype(np.uint8)).convert("RGB")
