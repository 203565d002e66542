"""Depth as a control image."""

from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from .. import hub
from ..types import Control, Dataset, Sample


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
        depth = (depth - depth.min()) / (depth.max() - depth.min()).clamp(min=1e-6)  # a flat image has no range
        return Control(Image.fromarray((255 * depth).byte().cpu().numpy()).convert("RGB"), self.weight)
