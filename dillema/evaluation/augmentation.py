"""Classical augmentation: what counterfactuals have to be better than to be worth their cost."""

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2


def _fog(pixels: tv_tensors.Image) -> tv_tensors.Image:
    """Returns an image blended with a light grey."""
    grey, density = 255 * torch.empty(1).uniform_(0.6, 0.95), torch.empty(1).uniform_(0.2, 0.7)
    return tv_tensors.wrap(torch.lerp(pixels.float(), grey.expand(pixels.shape), density.item()).to(torch.uint8), like=pixels)


# AugMix of torchvision is not among them: it moves the image and leaves the mask where it was
AUGMENTATION = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05)], 0.8),
        v2.RandomApply([v2.ColorJitter(brightness=(0.2, 0.6))], 0.3),  # dusk and night
        v2.RandomApply([v2.Lambda(_fog, tv_tensors.Image)], 0.3),
        v2.RandomApply([v2.GaussianBlur(5, (0.3, 2.0))], 0.3),
        v2.RandomApply([v2.GaussianNoise(sigma=0.06)], 0.3),
    ]
)


def augmented(image: Image.Image, truth: int | np.ndarray, seed: int) -> tuple[Image.Image, int | np.ndarray]:
    """Returns an image and its label or mask (height, width) after random changes of light, colour, sharpness, fog and noise, and a flip that both share."""
    pixels = tv_tensors.Image(v2.functional.pil_to_tensor(image))
    with torch.random.fork_rng(devices=[]):  # what is drawn here must not change what the network draws
        torch.manual_seed(seed)
        if isinstance(truth, int):
            pixels = AUGMENTATION(pixels)
        else:
            pixels, mask = AUGMENTATION(pixels, tv_tensors.Mask(torch.from_numpy(np.array(truth))))
            truth = mask.numpy()
    return v2.functional.to_pil_image(pixels), truth
