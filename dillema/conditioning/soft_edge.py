"""Soft edges as a control image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from .. import hub
from ..backend import Dataset, Size
from ..errors import UserError
from ..fields import Transient, Weight, Weights
from ..types import Control, Sample


@dataclass
class SoftEdge:
    """Edges as bright as the probability that a network (HED) gives them, as in the DILLEMA paper.

    Attributes:
        model: ControlNetHED.pth, with which the published soft-edge ControlNets were trained: a path, or
            <owner>/<repository>/<file> on the hub.
        weight: The weight of the control image.
        safe: Rounds the edges to black, grey and white. Plain edges contain faint traces of shadows,
            reflections and textures, from which a ControlNet restores the original light.
    """

    model: Weights[str]
    weight: Weight = 1.0
    safe: bool = False
    device: Transient[str] = "auto"

    name: ClassVar[str] = "soft_edge"
    batch_size: ClassVar[int] = 1
    version: ClassVar[int] = 1

    def load(self) -> None:
        """Loads the network; raises a UserError for a file that holds another one."""
        import torch

        from .hed import HED

        path = hub.file(self.model, "conditioning=canny")
        network = HED()
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch.load raises errors of many types
            reason = str(error).splitlines()[0]
            raise UserError(
                f"conditioning.model={self.model} does not hold the weights of ControlNetHED.pth: {reason}"
            ) from error
        self._device, _ = hub.placement(self.device, "float32")
        self._network = network.to(self._device).eval()

    def control(self, sample: Sample, dataset: Dataset, size: Size) -> Control:
        """Returns the edges of the image at `size`."""
        import torch

        pixels = np.asarray(sample.image.resize(size, Image.Resampling.LANCZOS), np.float32)
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device)
        with torch.inference_mode():
            edges = self._network(images)[0, 0]
        if self.safe:
            # three levels, as `safe_step` of the annotators that the published ControlNets were trained with
            edges = ((3 * edges).floor() / 2).clamp(max=1)
        return Control(Image.fromarray((255 * edges).byte().cpu().numpy()).convert("RGB"), self.weight)
