"""The similarity of a generated image to its original.

An edit may change light and colours, but the structure should stay.
"""

import numpy as np
from PIL import Image

SIMILARITIES = ("ssim", "psnr")
EQUAL = 100.0  # decibels for equal images, whose ratio is infinite


def similarity(original: Image.Image, image: Image.Image) -> dict[str, float]:
    """Returns the structural similarity of two images of one size, and their peak signal-to-noise ratio.

    The latter is in decibels, 100 at most.

    SSIM: Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13, 2004.
    """
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    a, b = (torch.from_numpy(np.array(i)).permute(2, 0, 1)[None].float() for i in (original, image))
    ssim = structural_similarity_index_measure(b, a, data_range=255.0)
    assert isinstance(ssim, torch.Tensor)
    return {"ssim": ssim.item(), "psnr": min(EQUAL, peak_signal_noise_ratio(b, a, data_range=255.0).item())}
