import numpy as np
import pytest
from PIL import Image

from dillema.quality.similarity import similarity
from tests import tiny


def test_similarity_is_that_of_other_libraries():
    import cv2

    def local(pixels):
        return cv2.GaussianBlur(pixels.astype(np.float64), (11, 11), 1.5)

    original, noise = tiny.image(0, (64, 48)), np.random.default_rng(0).normal(0, 20, (48, 64, 3))
    image = Image.fromarray(np.clip(np.asarray(original) + noise, 0, 255).astype(np.uint8))
    figures = similarity(original, image)
    assert figures["psnr"] == pytest.approx(cv2.PSNR(np.asarray(original), np.asarray(image)), abs=1e-4)
    a, b = (np.asarray(i).astype(np.float64) for i in (original, image))
    mean_a, mean_b, c1, c2 = local(a), local(b), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    spread, both = local(a * a) - mean_a**2 + local(b * b) - mean_b**2, local(a * b) - mean_a * mean_b
    index = (
        (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * (2 * both + c2) / (spread + c2)
    )  # Wang et al., equation 13
    assert figures["ssim"] == pytest.approx(index.mean(), abs=1e-4)


def test_similarity_of_an_image_with_itself_and_with_its_opposite():
    image = tiny.image(0, (64, 48))
    assert similarity(image, image) == {"ssim": pytest.approx(1), "psnr": 100}
    opposite = similarity(image, Image.fromarray(255 - np.asarray(image)))
    assert opposite["ssim"] < 0.3 and opposite["psnr"] < 15
