"""Soft edges as a control image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from .. import hub
from ..errors import UserError
from ..types import Control, Dataset, Sample


@dataclass
class SoftEdge:
    """Edges as bright as a network (HED) is sure of them, which is what the DILLEMA paper conditions on.

    `model` is ControlNetHED.pth, with which the published soft-edge ControlNets were trained: a path, or
    <owner>/<repository>/<file> on the hub.
    """

    model: str
    weight: float = 1.0
    device: str = "auto"

    name: ClassVar[str] = "soft_edge"
    transient: ClassVar[tuple[str, ...]] = ("device",)
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("model",)

    def load(self) -> None:
        """Loads the network; raises a UserError for a file that holds another one."""
        import torch

        from .hed import HED

        path = hub.file(self.model, "conditioning=canny")
        network = HED()
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch.load raises whatever the bytes make it stumble over
            raise UserError(f"conditioning.model={self.model} does not hold the weights of ControlNetHED.pth: {str(error).splitlines()[0]}") from error
        self._device, _ = hub.placement(self.device, "float32")
        self._network = network.to(self._device).eval()

    def control(self, sample: Sample, dataset: Dataset, size: tuple[int, int]) -> Control:
        """Returns the edges of the image at `size` (width, height)."""
        import torch

        pixels = np.asarray(sample.image.resize(size, Image.Resampling.LANCZOS), np.float32)
        with torch.inference_mode():
            edges = self._network(torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device))[0, 0]
        return Control(Image.fromarray((255 * edges).byte().cpu().numpy()).convert("RGB"), self.weight)
