"""A pipeline that diffuses pixels is saved, opened and used as one with an autoencoder."""

import logging

import pytest
import torch

from dillema.conditioning.canny import Canny
from dillema.conditioning.detail import SegmentationDetail
from dillema.generator.pixels import PixelSpace
from tests import tiny
from tests.generator.test_diffusers import control, generator, paint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.pixel_generator(tmp_path_factory.mktemp("pixels"))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_pixels_come_back_as_they_were(levels):
    space = PixelSpace(block_out_channels=(3,) * levels)
    images = torch.rand(2, 3, 16, 24)
    latents = space.encode(images).latents
    side = 2 ** (levels - 1)
    assert latents.shape == (2, 3 * side**2, 16 // side, 24 // side)
    assert torch.equal(space.decode(latents, return_dict=False)[0], images)
    assert torch.equal(space.decode(latents).sample, images)


@pytest.mark.parametrize("options", [{}, {"slicing": True, "tiling": True}, {"strength": 0.6, "steps": 4}])
def test_a_pipeline_of_pixels_paints(folder, options):
    painter = generator(folder, **options)
    (image,), (other,) = (paint(painter, ["a bus"], [control(grey)], [1]) for grey in (255, 0))
    assert image.size == (64, 32)
    assert image.tobytes() != other.tobytes()


def test_a_controlnet_that_was_trained_on_another_conditioning_is_named_once(folder, caplog):
    caplog.set_level(logging.WARNING)
    generator(folder, trained_on="segmentation_detail", conditioning=SegmentationDetail())
    generator(folder, conditioning=Canny())
    assert not caplog.messages
    generator(folder, trained_on="segmentation_detail", conditioning=Canny())
    (message,) = caplog.messages
    assert "was trained on conditioning=segmentation_detail: its images with conditioning=canny" in message
