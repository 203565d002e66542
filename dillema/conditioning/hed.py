"""The network that finds soft edges, in the layout of the published weights ControlNetHED.pth."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

BLOCKS = ((3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3))  # channels in and out, convolutions


class HED(nn.Module):
    """Holistically-nested edge detection (Xie and Tu, ICCV 2015): five stages of convolutions, each with an opinion on the edges."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        for number, sizes in enumerate(BLOCKS, 1):
            self.add_module(f"block{number}", Block(*sizes))

    def forward(self, images: Tensor) -> Tensor:
        """Returns how sure the network is of an edge, 0 to 1 (n, 1, height, width), for RGB images of 0 to 255 (n, 3, height, width)."""
        features, opinions = images - self.norm, []
        for number, block in enumerate(self.children()):
            features, opinion = block(max_pool2d(features, 2) if number else features)
            opinions.append(interpolate(opinion, images.shape[-2:], mode="bilinear"))
        return torch.stack(opinions).mean(0).sigmoid()


class Block(nn.Module):
    """A stage: its features, and its opinion in one channel."""

    def __init__(self, before: int, after: int, layers: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(after if n else before, after, 3, padding=1) for n in range(layers)))
        self.projection = nn.Conv2d(after, 1, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features and the opinion, both as large as what came in."""
        for layer in self.convs:
            features = layer(features).relu()
        return features, self.projection(features)
