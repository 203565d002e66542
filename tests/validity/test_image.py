import numpy as np
import pytest
from PIL import Image, ImageFilter

from dillema.types import Counterfactual
from dillema.validity.image import ImageGate
from tests import tiny


def score(*images):
    count = len(images)
    samples, texts = [tiny.sample()] * count, [Counterfactual("a street", ())] * count
    return ImageGate().score(samples, texts, images, tiny.dataset())


def street(size=(256, 160)):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2] = (120, 160, 220)
    pixels[size[1] // 2 :, :: size[0] // 16] = 200
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("image", "reasons"),
    [
        (street(), []),
        (Image.new("RGB", (64, 32)), ["brightness", "contrast", "sharpness"]),
        (Image.new("RGB", (64, 32), "grey"), ["contrast", "sharpness"]),
        (street().filter(ImageFilter.GaussianBlur(6)), ["sharpness"]),
    ],
)
def test_black_flat_and_blurred_images_are_refused_with_the_reason(image, reasons):
    (scores,) = score(image)
    assert set(scores) == set(ImageGate.scores)
    assert [reason.split()[0] for reason in ImageGate().reasons(scores)] == reasons


def test_an_image_of_not_a_number_is_refused_as_diffusers_paints_it():
    from diffusers.image_processor import VaeImageProcessor

    with np.errstate(invalid="ignore"):
        (image,) = VaeImageProcessor.numpy_to_pil(np.full((1, 32, 64, 3), np.nan, np.float32))
    (scores,) = score(image)
    assert "brightness is 0.00, below 0.01" in ImageGate().reasons(scores)


def test_the_scores_of_an_image_hardly_depend_on_its_size():
    small, large = score(street(), street().resize((1024, 640), Image.Resampling.NEAREST))
    assert small == pytest.approx(large, abs=1e-6)
