"""The network that finds soft edges, in the layout of the published weights ControlNetHED.pth."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

BLOCKS = (
    (3, 64, 2),
    (64, 128, 2),
    (128, 256, 3),
    (256, 512, 3),
    (512, 512, 3),
)  # channels in and out, convolutions


class HED(nn.Module):
    """Holistically-nested edge detection (Xie and Tu, ICCV 2015): the mean of five edge maps."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        for index, sizes in enumerate(BLOCKS, 1):
            self.add_module(f"block{index}", Stage(*sizes))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the probability of an edge at every pixel.

        Args:
            images: RGB values of 0 to 255, of shape (n, 3, height, width).

        Returns:
            Probabilities of shape (n, 1, height, width).
        """
        features = images - self.norm
        edge_maps = []
        for index, stage in enumerate(self.children()):
            features, edges = stage(max_pool2d(features, 2) if index else features)
            edge_maps.append(interpolate(edges, images.shape[-2:], mode="bilinear"))
        return torch.stack(edge_maps).mean(0).sigmoid()


class Stage(nn.Module):
    """A stage: convolutions, and the projection of their features to an edge map."""

    def __init__(self, channels_in: int, channels_out: int, layers: int) -> None:
        super().__init__()
        inputs = [channels_in] + [channels_out] * (layers - 1)
        self.convs = nn.Sequential(*(nn.Conv2d(channels, channels_out, 3, padding=1) for channels in inputs))
        self.projection = nn.Conv2d(channels_out, 1, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features and the edge map (one channel), both as large as the input."""
        for layer in self.convs:
            features = layer(features).relu()
        return features, self.projection(features)
