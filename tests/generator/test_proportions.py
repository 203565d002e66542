"""Pipelines of diffusers at the proportions of their sources."""

import numpy as np
import pytest
from PIL import Image

from dillema.errors import UserError
from dillema.generator.diffusers import ControlNetGenerator
from dillema.generator.editing import EditingGenerator
from dillema.image_size import ImageSize
from dillema.types import Control, Counterfactual, Sample
from tests import tiny
from tests.generator.test_editing import FOGGY
from tests.test_config import composed

STREET, PORTRAIT = (160, 80), (40, 80)
KEPT = {"width": None, "height": None, "short_side": 64}


def photograph(size):
    return Sample("photograph", lambda: tiny.png(np.asarray(tiny.image(0, size))))


@pytest.mark.parametrize("strength", [None, 0.5])
def test_a_controlnet_paints_at_the_size_of_the_control_image(tmp_path, strength):
    painter = ControlNetGenerator(tiny.generator(tmp_path / "p"), **KEPT, steps=2, strength=strength)
    painter.load()
    for size, expected in ((STREET, (128, 64)), (PORTRAIT, (64, 128))):
        size_of_run = ImageSize(short_side=64).of(size)
        control = {"canny": Control(Image.new("RGB", size_of_run))}
        (image,) = painter.generate([photograph(size)], [Counterfactual("a car", ())], [control], [1])
        assert image.size == size_of_run == expected


def test_an_editing_pipeline_keeps_the_proportions_of_the_source(tmp_path):
    folder = tiny.kontext(tmp_path)
    editor = EditingGenerator(folder, {"max_sequence_length": 16}, **KEPT, steps=2)
    editor.load()
    images = editor.generate([photograph(STREET), photograph(PORTRAIT)], [FOGGY] * 2, [{}, {}], [1, 2])
    assert [image.size for image in images] == [(128, 64), (64, 128)]


def test_one_side_alone_is_refused():
    for kind in (ControlNetGenerator, EditingGenerator):
        with pytest.raises(UserError, match=r"generator.width=512, generator.height=null: set both"):
            kind("a/model", width=512, height=None)


@pytest.mark.parametrize("option", ["sd15", "sd15_street", "sdxl", "flux_kontext"])
def test_the_published_generators_keep_proportions(option):
    block = composed(f"generator={option}").generator
    assert (block.width, block.height) == (None, None) and block.short_side in (512, 1024)
