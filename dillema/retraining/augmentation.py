"""Classical augmentation, the baseline for training on counterfactuals."""

from functools import cache

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from ..task import Task, Truth

AUGMENTATION_VERSION = 1  # raised whenever the same seed gives another image


def _draw(low: float, high: float) -> float:
    return torch.empty(1).uniform_(low, high).item()


def _add_veil(pixels: tv_tensors.Image, veil: Tensor, light: float) -> tv_tensors.Image:
    """Returns an image behind a veil of a lightness; the veil is 0 to 1 at each pixel."""
    blended = torch.lerp(pixels.float(), torch.tensor(255 * light), veil.clamp(0, 1))
    return tv_tensors.wrap(blended.to(torch.uint8), like=pixels)


def _darken(pixels: tv_tensors.Image) -> tv_tensors.Image:
    """Returns an image at dusk or at night, in the light of another colour."""
    light = _draw(0.2, 0.8) * torch.empty(3, 1, 1).uniform_(0.6, 1.4)
    return tv_tensors.wrap((pixels.float() * light).clamp(0, 255).to(torch.uint8), like=pixels)


def _add_fog(pixels: tv_tensors.Image) -> tv_tensors.Image:
    """Returns an image in uneven fog."""
    uneven = F.interpolate(torch.rand(1, 1, 3, 4), pixels.shape[-2:], mode="bilinear")[0]
    return _add_veil(pixels, _draw(0.2, 0.7) * (0.7 + 0.6 * uneven), _draw(0.6, 0.95))


def _add_streaks(
    pixels: tv_tensors.Image, length: float, density: float, light: tuple[float, float]
) -> tv_tensors.Image:
    """Returns a darker image with falling streaks.

    Their length is a share of the height, 0 for flakes. `density` limits the share of pixels where a streak
    starts, and `light` the share of the remaining light.
    """
    height, width = pixels.shape[-2:]
    drops = (torch.rand(1, height, width) < _draw(density / 4, density)).float()
    kernel = [3, 2 * round(height * length / 2) + 3]
    streaks = v2.functional.gaussian_blur(drops, kernel, [0.6, max(0.6, kernel[1] / 5)])
    slanted = v2.functional.affine(streaks, 0.0, [0, 0], 1.0, [_draw(-25, 25), 0.0])
    darker = tv_tensors.wrap((pixels.float() * _draw(*light)).to(torch.uint8), like=pixels)
    return _add_veil(darker, slanted / slanted.max().clamp_min(1e-6) * _draw(0.4, 0.9), 0.9)


def _add_rain(pixels: tv_tensors.Image) -> tv_tensors.Image:
    """Returns an image in slanting rain, darker."""
    return _add_streaks(pixels, 0.08, 0.02, (0.5, 0.9))


def _add_snow(pixels: tv_tensors.Image) -> tv_tensors.Image:
    """Returns an image with flakes in the air, and paler."""
    paler = _add_veil(pixels, torch.tensor(_draw(0.1, 0.5)), 0.9)
    return _add_streaks(paler, 0.0, 0.03, (0.8, 1.0))


@cache
def _augmentation(height: int, width: int) -> v2.Compose:
    # AugMix and RandAugment of torchvision are not used: they move the image but not the mask
    ratio = (0.85 * width / height, 1.15 * width / height)
    weathers = [v2.Lambda(weather, tv_tensors.Image) for weather in (_add_fog, _add_rain, _add_snow)]
    return v2.Compose(
        [
            v2.RandomApply([v2.RandomResizedCrop((height, width), scale=(0.6, 1.0), ratio=ratio)], 0.5),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05)], 0.8),
            v2.RandomApply([v2.Lambda(_darken, tv_tensors.Image)], 0.4),
            v2.RandomApply([v2.RandomChoice(weathers)], 0.5),
            v2.RandomApply([v2.GaussianBlur(5, (0.3, 2.0))], 0.3),
            v2.RandomApply([v2.GaussianNoise(sigma=0.06)], 0.3),
        ]
    )


def augment(image: Image.Image, truth: Truth, task: Task, seed: int) -> tuple[Image.Image, Truth]:
    """Returns an image and its truth after random changes of light, colour, weather, sharpness and view.

    A change of the view also moves the truth; see `Task.transform`.
    """
    pixels = tv_tensors.Image(v2.functional.pil_to_tensor(image))
    change = _augmentation(image.height, image.width)
    with torch.random.fork_rng(devices=[]):  # draws here must not change the random numbers of the network
        torch.manual_seed(seed)
        changed, truth = task.transform(change, pixels, truth)
    return v2.functional.to_pil_image(changed), truth
