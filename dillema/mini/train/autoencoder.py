"""The autoencoder: AutoencoderKL, eight-fold downsampling, sixteen latent channels.

The one in the package is from an earlier recipe; this one has not been run to its end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from ..render import PEDESTRIAN, POLE, ROAD_LINE, VEGETATION, VEHICLE
from .loop import AS_THE_RECIPE_SAYS, DEVICE, ON_GPU, Limits, fit, gather, on_device, pixels
from .observer import Observer
from .world import World, draw_batch

BATCH = 32 if ON_GPU else 2  # images
CLASS_WEIGHTS = {VEHICLE: 3.0, PEDESTRIAN: 4.0, POLE: 4.0, ROAD_LINE: 1.5, VEGETATION: 1.5}
PERCEPTUAL_WEIGHT = 0.4
PERCEPTUAL_RAMP = 0.15  # share of the training until the observer knows enough to be asked
# The divergence is a sum over the latents, the error a mean over pixels.
# At the usual 1e-6 half of the channels stay empty.
DIVERGENCE_WEIGHT = 1e-8
# The most noise that the decoder has to bear, in standard deviations of the latents: those that the diffusion
# model paints are not exact.
LATENT_NOISE = 0.08


def build() -> AutoencoderKL:
    """Returns an untrained autoencoder; without attention, so that it takes images of any size."""
    return AutoencoderKL(
        block_out_channels=(32, 48, 96, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=256,
    )


def train(
    worlds: list[World],
    folder: Path,
    steps: int = 40000,
    batch: int = BATCH,
    limits: Limits = AS_THE_RECIPE_SAYS,
) -> AutoencoderKL:
    """Returns the trained autoencoder, its scaling factor set so that latents have unit variance.

    An observer is trained beside it, on the originals alone, and kept in `folder`. The perceptual loss is the
    difference between its readings of the original and of the reconstruction.
    """
    vae, observer = build(), Observer()
    model = nn.ModuleDict({"vae": vae, "observer": observer}).to(memory_format=torch.channels_last)
    images, masks = ([on_device(array) for array in part] for part in zip(*map(_arrays, worlds), strict=True))

    def loss(rng: np.random.Generator, share: float) -> torch.Tensor:
        picks = draw_batch(rng, worlds, batch)
        originals, labels = pixels(gather(images, picks)), gather(masks, picks).long()
        posterior = vae.encode(originals).latent_dist
        latents = posterior.sample()
        noise = LATENT_NOISE * latents.detach().std() * torch.rand(len(latents), 1, 1, 1, device=DEVICE)
        output = vae.decode(latents + noise * torch.randn_like(latents)).sample.float()
        weight = pixel_weights(labels)
        reading = observer(originals)
        observer_loss = (weight * F.nll_loss(reading, labels, reduction="none")[:, None]).mean()
        perceptual = perceptual_error(observer, reading.detach(), output, weight)
        return (
            reconstruction_error(originals, output, weight)
            + observer_loss
            + PERCEPTUAL_WEIGHT * min(1, share / PERCEPTUAL_RAMP) * perceptual
            + DIVERGENCE_WEIGHT * posterior.kl().mean().float()
        )

    trained = fit(
        "autoencoder",
        model,
        loss,
        folder=folder,
        steps=steps,
        lr=1e-3,
        decay=0.0,
        limits=limits,
    )
    torch.save(trained["observer"].state_dict(), observer_file(folder))
    vae = cast(AutoencoderKL, trained["vae"])
    with torch.no_grad():
        latents = [vae.encode(pixels(world.images[:64])).latent_dist.mean for world in worlds]
    vae.register_to_config(scaling_factor=float(1 / torch.cat(latents).std()))
    return vae


def observer_file(folder: Path) -> Path:
    """Returns where the weights of the observer are kept."""
    return folder / "observer.pt"


def load_observer(folder: Path) -> Observer:
    """Returns the observer that was trained beside the autoencoder; its weights stay as they are."""
    observer = Observer()
    observer.load_state_dict(torch.load(observer_file(folder), map_location="cpu", weights_only=True))
    return observer.to(DEVICE).to(memory_format=torch.channels_last).requires_grad_(False)


def pixel_weights(labels: torch.Tensor) -> torch.Tensor:
    """Returns how much each pixel counts (n, 1, h, w), from class ids (n, h, w): small objects count more."""
    weights = torch.ones(256, device=labels.device)
    for class_id, weight in CLASS_WEIGHTS.items():
        weights[class_id] = weight
    return weights[labels][:, None]


def perceptual_error(
    observer: Observer, expected: torch.Tensor, output: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Returns the Kullback-Leibler divergence of the observer's reading of an output from the expected one.

    `expected` are log probabilities (n, classes, h, w). The observer learns nothing from it.
    """
    with _frozen(observer):
        reading = observer(output)
    return (weight * (expected.exp() * (expected - reading)).sum(1, keepdim=True)).mean()


def reconstruction_error(images: torch.Tensor, output: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
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


def _arrays(world: World) -> tuple[np.ndarray, np.ndarray]:
    return world.images, world.masks


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Within the context, no gradient reaches the weights of a network that learns otherwise."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
