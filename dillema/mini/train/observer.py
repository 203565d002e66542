"""The networks that the perceptual loss of the generator uses."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .loop import DEVICE, Limits, fit, pixels
from .picture import pixel_weights
from .recognisers import CLASS_COUNT, jitter
from .world import World

CLEAR_DAY_STEPS, CLEAR_DAY_BATCH = 600, 8
CLEAR_DAY_SHARE = 0.05  # of the seconds of a training, where they limit it


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


def train_clear_day_observer(worlds: list[World], folder: Path, limits: Limits) -> Observer:
    """Returns an observer that has seen clear days alone, as the models under test have; it learns no more.

    `limits` are those of the training that it is made for.

    What it reads in other weather, and at other times, is as wrong in a generated image as in a render if
    both are equally hard. An observer that knows all conditions reads more than models under test would.
    """
    everything = [(k, i) for k, world in enumerate(worlds) for i in range(len(world))]
    clear_days = [(k, i) for k, i in everything if _is_clear_day(worlds[k].rows[i])]
    picked = clear_days or everything  # the few scenes of a trial may have none
    observer = Observer()

    def loss(rng: np.random.Generator, share: float) -> torch.Tensor:
        picks = [picked[n] for n in rng.integers(len(picked), size=CLEAR_DAY_BATCH)]
        images = jitter([worlds[k].images[i] for k, i in picks], rng)
        labels = torch.from_numpy(np.stack([worlds[k].masks[i] for k, i in picks])).long().to(DEVICE)
        error = F.nll_loss(observer(pixels(images)), labels, reduction="none")
        return (pixel_weights(labels)[:, 0] * error).mean()

    steps = min(limits.steps or CLEAR_DAY_STEPS, CLEAR_DAY_STEPS)
    seconds = None if limits.seconds is None else CLEAR_DAY_SHARE * limits.seconds
    limits = Limits(seconds=seconds)
    return fit("observer", observer, loss, folder=folder, steps=steps, lr=3e-3, average=0.98, limits=limits)


def _is_clear_day(row: dict[str, str]) -> bool:
    return (row["weather"], row["time_of_day"]) == ("clear", "daytime")
