"""The autoencoder: AutoencoderKL with eight-fold downsampling and sixteen latent channels, trained on crops."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, leaky_relu

from ..render import CLASSES, PEDESTRIAN, POLE, ROAD_LINE, VEHICLE
from .loop import DEVICE, fit, pixels
from .world import World

CROP = (96, 128)
WEIGHTS = {VEHICLE: 3.0, PEDESTRIAN: 3.0, POLE: 2.0, ROAD_LINE: 1.5}


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

    L1 and image-gradient loss, weighted by class: the colours of small things are what fades first.
    """
    model = build().to(memory_format=torch.channels_last)

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        target, masks = _read(worlds, _crops(worlds, rng, batch))
        weight = _weights(WEIGHTS)[masks][:, None]
        posterior = model.encode(target).latent_dist
        output = model.decode(posterior.sample()).sample.float()
        error = (weight * (output - target).abs()).mean()
        for axis in (2, 3):
            error = error + 0.5 * (weight.narrow(axis, 0, weight.shape[axis] - 1) * (output.diff(dim=axis) - target.diff(dim=axis)).abs()).mean()
        # the divergence is a sum over the latents and the error a mean over pixels: with the usual 1e-6 half of the channels stay empty
        return error + 1e-8 * posterior.kl().mean().float()

    trained = fit("autoencoder", model, loss, folder=folder, steps=steps, lr=1e-3, decay=0.0)
    with torch.no_grad():
        latents = [trained.encode(pixels(w.images[:64])).latent_dist.mean for w in worlds]
    trained.register_to_config(scaling_factor=float(1 / torch.cat(latents).std()))
    return trained


def sharpen(vae: AutoencoderKL, worlds: list[World], latents: list[np.ndarray], folder: Path, steps: int = 10000, batch: int = 4) -> AutoencoderKL:
    """Returns the autoencoder with a decoder that paints what averages away: leaves, poles, rain, snow. Its latents stay as they are.

    A critic says of each pixel which class it shows, or that it is painted; the decoder learns to be read as the mask
    has it (Schönfeld et al., You Only Need Adversarial Supervision for Semantic Image Synthesis, ICLR 2021). Noise on
    the latents prepares it for those of the diffusion model, which are never exact.
    """
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    model = nn.ModuleDict({"vae": vae.to(memory_format=torch.channels_last), "critic": Critic().to(memory_format=torch.channels_last)})
    index = torch.zeros(256, dtype=torch.long, device=DEVICE)
    index[list(CLASSES)] = torch.arange(len(CLASSES), device=DEVICE)
    share = torch.bincount(index[torch.from_numpy(worlds[0].masks[:200]).long().to(DEVICE)].flatten(), minlength=len(CLASSES)).float()
    rare = (share / share.sum()).clamp(min=1e-3).rsqrt()

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        crops = _crops(worlds, rng, batch)
        target, masks = _read(worlds, crops)
        classes = index[masks]
        balance = rare[classes]
        parts = np.stack([latents[k][i, :, y // 8 : (y + CROP[0]) // 8, x // 8 : (x + CROP[1]) // 8] for k, i, y, x in crops])
        clean = torch.from_numpy(parts).to(DEVICE).float()
        noisy = clean + torch.rand(batch, 1, 1, 1, device=DEVICE) * 0.15 * torch.randn_like(clean)
        output = model["vae"].decode(noisy / vae.config.scaling_factor).sample.float()
        error = (_weights(WEIGHTS)[masks][:, None] * (output - target).abs()).mean()

        def missed(image: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            return (balance * cross_entropy(model["critic"](image).float(), wanted, reduction="none")).sum() / balance.sum()

        model["critic"].requires_grad_(False)
        read = missed(output, classes)
        model["critic"].requires_grad_(True)
        caught = missed(target, classes) + missed(output.detach(), torch.full_like(classes, len(CLASSES)))
        return error + 0.15 * min(1.0, step / 500) * read + caught

    return fit("decoder", model, loss, folder=folder, steps=steps, lr=5e-4, decay=0.0)["vae"]


class Critic(nn.Module):
    """Returns for each pixel of an image (n, 3, h, w) the logits (n, classes + 1, h, w) of what it shows; the last is "painted"."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64, 96)
        self.down = nn.ModuleList([nn.Conv2d(a, b, 3, stride, 1) for a, b, stride in zip((3, *widths[:-1]), widths, (1, 2, 2, 2), strict=True)])
        self.middle = nn.Conv2d(96, 96, 3, padding=1)
        self.up = nn.ModuleList([nn.Conv2d(a + b, b, 3, padding=1) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)])
        self.head = nn.Conv2d(widths[0], len(CLASSES) + 1, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        seen = []
        for layer in self.down:
            image = leaky_relu(layer(image), 0.2)
            seen.append(image)
        image = leaky_relu(self.middle(image), 0.2)
        for layer, before in zip(self.up, seen[-2::-1], strict=True):
            image = leaky_relu(layer(torch.cat([interpolate(image, scale_factor=2.0), before], 1)), 0.2)
        return self.head(image)


def _crops(worlds: list[World], rng: np.random.Generator, batch: int) -> list[tuple[int, int, int, int]]:
    """Returns which world, image, row and column each crop is taken from, on the grid of the latents; half of them at a vehicle or a pedestrian."""
    crops = []
    for _ in range(batch):
        k = int(rng.integers(len(worlds)))
        i = int(rng.integers(len(worlds[k])))
        mask = worlds[k].masks[i]
        h, w = mask.shape[0] - CROP[0], mask.shape[1] - CROP[1]
        y, x = int(rng.integers(h + 1)), int(rng.integers(w + 1))
        if rng.random() < 0.5:
            ys, xs = np.nonzero(np.isin(mask, (VEHICLE, PEDESTRIAN)))
            if len(ys):
                n = rng.integers(len(ys))
                y, x = int(np.clip(ys[n] - rng.integers(CROP[0]), 0, h)), int(np.clip(xs[n] - rng.integers(CROP[1]), 0, w))
        crops.append((k, i, y // 8 * 8, x // 8 * 8))
    return crops


def _read(worlds: list[World], crops: list[tuple[int, int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the crops as images (n, 3, h, w) in -1..1, and their class ids (n, h, w)."""
    images, masks = (np.stack([getattr(worlds[k], what)[i, y : y + CROP[0], x : x + CROP[1]] for k, i, y, x in crops]) for what in ("images", "masks"))
    return pixels(images), torch.from_numpy(masks).long().to(DEVICE)


def _weights(weights: dict[int, float]) -> torch.Tensor:
    """Returns the weight of each class id."""
    table = torch.ones(256, device=DEVICE)
    for cls, weight in weights.items():
        table[cls] = weight
    return table
