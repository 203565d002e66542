"""How near a generated image stays to its original. An edit is meant to change light and colours: what should stay is the structure."""

import numpy as np
from PIL import Image

SIMILARITIES = ("ssim", "psnr")


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the structural similarity of two images (height, width, channels) of 0 to 255.

    Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13, 2004; beyond its edges an image is mirrored, as in torchmetrics.
    """
    import cv2

    def local(pixels: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(pixels, (11, 11), 1.5)

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b, c1, c2 = local(a), local(b), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    spread = local(a * a + b * b) - mean_a**2 - mean_b**2
    return float((luminance * (2 * (local(a * b) - mean_a * mean_b) + c2) / (spread + c2)).mean())


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio of two images of 0 to 255 in decibels; 100 for equal ones, whose ratio is infinite."""
    error = np.square(a.astype(np.float64) - b).mean()
    return float(min(100, 10 * np.log10(255**2 / error))) if error else 100.0


def similarity(original: Image.Image, image: Image.Image) -> dict[str, float]:
    """Returns `ssim` and `psnr` of two images of one size."""
    a, b = np.asarray(original), np.asarray(image)
    return {"ssim": ssim(a, b), "psnr": psnr(a, b)}
