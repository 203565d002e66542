"""The network that the perceptual loss of the generator uses."""

import torch
from torch import nn
from torch.nn import functional as F

from .recognisers import CLASS_COUNT


class Observer(nn.Module):
    """A small segmenter with an output at each of four scales.

    It takes the place of the pretrained network of LPIPS (Zhang et al., CVPR 2018): its outputs for a
    generated image are compared with those for the render. It shares neither architecture nor weights with
    the models that later measure the generator.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64, 96)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, width, 3, stride=1 if before == 3 else 2, padding=1),
                nn.GroupNorm(4, width),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.GroupNorm(4, width),
                nn.SiLU(),
            )
            for before, width in zip((3, *widths), widths, strict=False)
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, CLASS_COUNT, 1) for width in widths)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns log probabilities (n, classes, h, w) for images (n, 3, h, w) in -1..1."""
        features, readings = images, []
        for stage, head in zip(self.stages, self.heads, strict=True):
            features = stage(features)
            readings.append(head(features))
        logits = readings.pop()
        for finer in reversed(readings):  # one after the other, since sums at full size take long
            logits = finer + F.interpolate(logits, finer.shape[2:], mode="bilinear")
        return F.log_softmax(logits.float(), 1)
