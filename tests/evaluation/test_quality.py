import numpy as np
import pytest
from PIL import Image

from dillema.evaluation.quality import psnr, similarity, ssim
from tests import tiny


def test_similarity_agrees_with_torchmetrics():
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    a, noise = np.asarray(tiny.image(0, (64, 48))), np.random.default_rng(0).normal(0, 20, (48, 64, 3))
    b = np.clip(a + noise, 0, 255).astype(np.uint8)
    x, y = (torch.from_numpy(i.copy()).permute(2, 0, 1)[None].double() for i in (a, b))
    assert ssim(a, b) == pytest.approx(structural_similarity_index_measure(x, y, data_range=255.0).item(), abs=1e-6)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255.0).item(), abs=1e-6)


def test_similarity_of_an_image_with_itself_and_with_its_opposite():
    image = tiny.image(0, (64, 48))
    assert similarity(image, image) == {"ssim": pytest.approx(1), "psnr": 100}
    opposite = similarity(image, Image.fromarray(255 - np.asarray(image)))
    assert opposite["ssim"] < 0.3 and opposite["psnr"] < 15
