"""The autoencoder: AutoencoderKL, eight-fold downsampling, sixteen latent channels; trained on crops."""

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

CROP_HEIGHT, CROP_WIDTH = 96, 128
CLASS_WEIGHTS = {VEHICLE: 3.0, PEDESTRIAN: 4.0, POLE: 4.0, ROAD_LINE: 1.5, VEGETATION: 1.5}
PERCEPTUAL_WEIGHT = 0.1
# The divergence is a sum over the latents, the error a mean over pixels.
# At the usual 1e-6 half of the channels stay empty.
DIVERGENCE_WEIGHT = 1e-8


def build() -> AutoencoderKL:
    """Returns an untrained autoencoder; without attention, crops and whole images are treated alike."""
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

    An observer is trained beside it, on the originals alone. The perceptual loss is the difference between
    its readings of the original and of the reconstruction.
    """
    vae, observer = build(), Observer()
    model = nn.ModuleDict({"vae": vae, "observer": observer}).to(memory_format=torch.channels_last)
    class_weights = torch.ones(256)
    for class_id, weight in CLASS_WEIGHTS.items():
        class_weights[class_id] = weight

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        crops = [_draw_crop(rng, worlds[rng.integers(len(worlds))]) for _ in range(batch)]
        images = pixels(np.stack([image for image, _ in crops]))
        labels = torch.from_numpy(np.stack([mask for _, mask in crops])).long().to(images.device)
        weight = class_weights.to(images.device)[labels][:, None]
        posterior = vae.encode(images).latent_dist
        output = vae.decode(posterior.sample()).sample.float()
        reading = observer(images)
        frozen = {name: parameter.detach() for name, parameter in observer.named_parameters()}
        perceptual = _divergence(reading.detach(), functional_call(observer, frozen, output), weight)
        observer_loss = (weight * F.nll_loss(reading, labels, reduction="none")[:, None]).mean()
        return (
            _reconstruction_error(images, output, weight)
            + observer_loss
            + PERCEPTUAL_WEIGHT * min(1, step / 2000) * perceptual
            + DIVERGENCE_WEIGHT * posterior.kl().mean().float()
        )

    trained = fit("autoencoder", model, loss, folder=folder, steps=steps, lr=1e-3, decay=0.0)["vae"]
    vae = cast(AutoencoderKL, trained)
    with torch.no_grad():
        latents = [vae.encode(pixels(world.images[:64])).latent_dist.mean for world in worlds]
    vae.register_to_config(scaling_factor=float(1 / torch.cat(latents).std()))
    return vae


def _draw_crop(rng: np.random.Generator, world: World) -> tuple[np.ndarray, np.ndarray]:
    """Returns a crop of an image and of its mask; half of the crops hold a vehicle or a pedestrian."""
    i = int(rng.integers(len(world)))
    max_y, max_x = world.masks.shape[1] - CROP_HEIGHT, world.masks.shape[2] - CROP_WIDTH
    y, x = int(rng.integers(max_y + 1)), int(rng.integers(max_x + 1))
    if rng.random() < 0.5:
        rows, columns = np.nonzero(np.isin(world.masks[i], (VEHICLE, PEDESTRIAN)))
        if len(rows):
            k = rng.integers(len(rows))
            y = int(np.clip(rows[k] - rng.integers(CROP_HEIGHT), 0, max_y))
            x = int(np.clip(columns[k] - rng.integers(CROP_WIDTH), 0, max_x))
    crop = (i, slice(y, y + CROP_HEIGHT), slice(x, x + CROP_WIDTH))
    return world.images[crop], world.masks[crop]


def _divergence(expected: torch.Tensor, log_probs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Returns the Kullback-Leibler divergence of log probabilities (n, classes, h, w), weighted by pixel."""
    return (weight * (expected.exp() * (expected - log_probs)).sum(1, keepdim=True)).mean()


def _reconstruction_error(images: torch.Tensor, output: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Returns the L1 error of pixels and of their gradients, weighted by pixel.

    Small objects weigh more, since their colours fade first. The error is taken of the values and of their
    asinh, in units of each image's contrast: else trees at night and in fog would hardly count.
    """
    weight = weight * 0.45 / (images.std((1, 2, 3), keepdim=True) + 0.1)
    output, images = (torch.cat([x, torch.asinh(5 * (x + 1)) / 3], 1) for x in (output, images))
    error = (weight * (output - images).abs()).mean()
    for axis in (2, 3):
        gradient_error = (output.diff(dim=axis) - images.diff(dim=axis)).abs()
        inner_weight = weight.narrow(axis, 0, weight.shape[axis] - 1)
        error = error + 0.5 * (inner_weight * gradient_error).mean()
    return error
