"""Classical augmentation: what counterfactuals have to be better than to be worth their cost."""

from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

VERSION = 1


def _between(low: float, high: float) -> float:
    return torch.empty(1).uniform_(low, high).item()


def _veiled(pixels: tv_tensors.Image, veil: Tensor, light: float) -> tv_tensors.Image:
    """Returns an image behind a veil, 0 to 1 at each pixel, that is as light as it is told."""
    return tv_tensors.wrap(torch.lerp(pixels.float(), torch.tensor(255 * light), veil.clamp(0, 1)).to(torch.uint8), like=pixels)


def _dark(pixels: tv_tensors.Image) -> tv_tensors.Image:
    """Returns an image at dusk or at night, in the light of another colour."""
    light = _between(0.2, 0.8) * torch.empty(3, 1, 1).uniform_(0.6, 1.4)
    return tv_tensors.wrap((pixels.float() * light).clamp(0, 255).to(torch.uint8), like=pixels)


def _fog(pixels: tv_tensors.Image) -> tv_tensors.Image:
    """Returns an image in uneven fog."""
    uneven = F.interpolate(torch.rand(1, 1, 3, 4), pixels.shape[-2:], mode="bilinear")[0]
    return _veiled(pixels, _between(0.2, 0.7) * (0.7 + 0.6 * uneven), _between(0.6, 0.95))


def _falling(pixels: tv_tensors.Image, length: float, most: float, dim: tuple[float, float]) -> tv_tensors.Image:
    """Returns an image, less light, with streaks of a length, a share of the height; 0 for flakes."""
    height, width = pixels.shape[-2:]
    drops = (torch.rand(1, height, width) < _between(most / 4, most)).float()
    streak = [3, 2 * round(height * length / 2) + 3]
    streaks = v2.functional.gaussian_blur(drops, streak, [0.6, max(0.6, streak[1] / 5)])
    slanted = v2.functional.affine(streaks, 0.0, [0, 0], 1.0, [_between(-25, 25), 0.0])
    darker = tv_tensors.wrap((pixels.float() * _between(*dim)).to(torch.uint8), like=pixels)
    return _veiled(darker, slanted / slanted.max().clamp_min(1e-6) * _between(0.4, 0.9), 0.9)


def _rain(pixels: tv_tensors.Image) -> tv_tensors.Image:
    """Returns an image in slanting rain, darker."""
    return _falling(pixels, 0.08, 0.02, (0.5, 0.9))


def _snow(pixels: tv_tensors.Image) -> tv_tensors.Image:
    """Returns an image with flakes in the air, and paler."""
    paler = _veiled(pixels, torch.tensor(_between(0.1, 0.5)), 0.9)
    return _falling(paler, 0.0, 0.03, (0.8, 1.0))


@cache
def _augmentation(height: int, width: int) -> v2.Compose:
    # neither AugMix nor RandAugment of torchvision: they move the image and leave the mask where it was
    return v2.Compose(
        [
            v2.RandomApply([v2.RandomResizedCrop((height, width), scale=(0.6, 1.0), ratio=(0.85 * width / height, 1.15 * width / height))], 0.5),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05)], 0.8),
            v2.RandomApply([v2.Lambda(_dark, tv_tensors.Image)], 0.4),
            v2.RandomApply([v2.RandomChoice([v2.Lambda(weather, tv_tensors.Image) for weather in (_fog, _rain, _snow)])], 0.5),
            v2.RandomApply([v2.GaussianBlur(5, (0.3, 2.0))], 0.3),
            v2.RandomApply([v2.GaussianNoise(sigma=0.06)], 0.3),
        ]
    )


def augmented(image: Image.Image, truth: int | np.ndarray, seed: int) -> tuple[Image.Image, int | np.ndarray]:
    """Returns an image and its label or mask (height, width) after random changes of light, colour, weather, sharpness and, for both, of the view."""
    pixels = tv_tensors.Image(v2.functional.pil_to_tensor(image))
    change = _augmentation(image.height, image.width)
    with torch.random.fork_rng(devices=[]):  # what is drawn here must not change what the network draws
        torch.manual_seed(seed)
        if isinstance(truth, int):
            pixels = change(pixels)
        else:
            pixels, mask = change(pixels, tv_tensors.Mask(torch.from_numpy(np.array(truth))))
            truth = mask.numpy()
    return v2.functional.to_pil_image(pixels), truth
