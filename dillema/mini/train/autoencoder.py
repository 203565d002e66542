"""The autoencoder: AutoencoderKL with eight-fold downsampling and sixteen latent channels, trained on crops."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from ..render import PEDESTRIAN, POLE, ROAD_LINE, VEGETATION, VEHICLE
from .loop import fit, pixels
from .observer import Observer
from .world import World

CROP = (96, 128)
WEIGHTS = {VEHICLE: 3.0, PEDESTRIAN: 4.0, POLE: 4.0, ROAD_LINE: 1.5, VEGETATION: 1.5}
PERCEIVED = 0.1  # weight of what the observer reads against the error in pixels


def build() -> AutoencoderKL:
    """Returns an untrained autoencoder; no attention, so that what it learns on crops holds on whole frames."""
    return AutoencoderKL(
        block_out_channels=(24, 48, 96, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=256,
    )


def train(worlds: list[World], folder: Path, steps: int = 20000, batch: int = 4) -> AutoencoderKL:
    """Returns the trained autoencoder, its scaling factor set so that latents have unit variance.

    L1 and image-gradient loss, weighted by class: the colours of small things are what fades first. It is taken of the
    values and of their asinh, in units of each picture's contrast, or trees at night and in fog would hardly count.
    An observer, trained beside it on the originals alone, has to read the same in the reconstruction.
    """
    vae, observer = build(), Observer()
    model = nn.ModuleDict({"vae": vae, "observer": observer}).to(memory_format=torch.channels_last)
    weight_of = torch.ones(256)
    for cls, weight in WEIGHTS.items():
        weight_of[cls] = weight

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        images, masks = [], []
        for _ in range(batch):
            world = worlds[rng.integers(len(worlds))]
            i = int(rng.integers(len(world)))
            h, w = world.masks.shape[1] - CROP[0], world.masks.shape[2] - CROP[1]
            y, x = int(rng.integers(h + 1)), int(rng.integers(w + 1))
            if rng.random() < 0.5:  # half of the crops hold a vehicle or a pedestrian
                ys, xs = np.nonzero(np.isin(world.masks[i], (VEHICLE, PEDESTRIAN)))
                if len(ys):
                    k = rng.integers(len(ys))
                    y = int(np.clip(ys[k] - rng.integers(CROP[0]), 0, h))
                    x = int(np.clip(xs[k] - rng.integers(CROP[1]), 0, w))
            images.append(world.images[i, y : y + CROP[0], x : x + CROP[1]])
            masks.append(world.masks[i, y : y + CROP[0], x : x + CROP[1]])
        target = pixels(np.stack(images))
        labels = torch.from_numpy(np.stack(masks)).long().to(target.device)
        weight = weight_of.to(target.device)[labels][:, None]
        posterior = vae.encode(target).latent_dist
        output = vae.decode(posterior.sample()).sample.float()
        seen = observer(target)
        read = functional_call(observer, {k: v.detach() for k, v in observer.named_parameters()}, output)
        wanted = seen.detach()
        perceived = (weight * (wanted.exp() * (wanted - read)).sum(1, keepdim=True)).mean()
        learnt = (weight * F.nll_loss(seen, labels, reduction="none")[:, None]).mean()
        weight = weight * 0.45 / (target.std((1, 2, 3), keepdim=True) + 0.1)
        output, target = (torch.cat([x, torch.asinh(5 * (x + 1)) / 3], 1) for x in (output, target))
        error = (weight * (output - target).abs()).mean()
        for axis in (2, 3):
            error = error + 0.5 * (weight.narrow(axis, 0, weight.shape[axis] - 1) * (output.diff(dim=axis) - target.diff(dim=axis)).abs()).mean()
        # the divergence is a sum over the latents and the error a mean over pixels: with the usual 1e-6 half of the channels stay empty
        return error + learnt + PERCEIVED * min(1, step / 2000) * perceived + 1e-8 * posterior.kl().mean().float()

    trained = cast(AutoencoderKL, fit("autoencoder", model, loss, folder=folder, steps=steps, lr=1e-3, decay=0.0)["vae"])
    with torch.no_grad():
        latents = [trained.encode(pixels(w.images[:64])).latent_dist.mean for w in worlds]
    trained.register_to_config(scaling_factor=float(1 / torch.cat(latents).std()))
    return trained
