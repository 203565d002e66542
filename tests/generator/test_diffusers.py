import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dillema.errors import ItemError, UserError
from dillema.generator.diffusers import ControlNetGenerator
from dillema.types import Control
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.generator(tmp_path_factory.mktemp("generator") / "pipeline")


def generator(folder, **options):
    result = ControlNetGenerator(folder, width=64, height=32, steps=2, **options)
    result.load()
    return result


def control(grey, weight=1.0):
    return Control(Image.new("RGB", tiny.SIZE, (grey, grey, grey)), weight)


def difference(a, b):
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


def test_an_image_depends_on_its_prompt_control_weight_and_seed_and_not_on_its_batch(folder):
    paint = generator(folder).generate
    first, second = paint(["a red car", "a bus"], [control(0), control(255)], [1, 2])
    assert first.size == (64, 32)
    (alone,) = paint(["a bus"], [control(255)], [2])
    assert difference(alone, second) <= 1
    for prompt, structure, seed in [("snow", control(255), 2), ("a bus", control(0), 2), ("a bus", control(255, 0.2), 2), ("a bus", control(255), 3)]:
        (other,) = paint([prompt], [structure], [seed])
        assert difference(other, second) > 1


def test_a_controlnet_may_lie_in_a_folder_of_its_own(folder, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(folder, base)
    shutil.move(base / "controlnet", tmp_path / "controlnet")
    apart = generator(str(base), controlnet=str(tmp_path / "controlnet"))
    (image,), (whole,) = (g.generate(["a bus"], [control(255)], [2]) for g in (apart, generator(folder)))
    assert difference(image, whole) == 0


def test_another_scheduler_takes_over_the_settings_of_the_checkpoints(folder):
    scheduler = generator(folder, scheduler="UniPCMultistepScheduler")._pipeline.scheduler
    assert type(scheduler).__name__ == "UniPCMultistepScheduler"
    assert (scheduler.config.timestep_spacing, scheduler.config.prediction_type) == ("trailing", "v_prediction")


def test_a_failed_image_does_not_take_the_others_with_it(folder):
    paint = generator(folder)
    vae = paint._pipeline.vae
    decode = vae.decode

    def broken(latents, **options):
        (pixels,) = decode(latents, **options)
        pixels[0], pixels[1] = torch.nan, -1.0
        return (pixels,)

    vae.decode = broken
    nan, black, good = paint.generate(["a", "b", "c"], [control(0)] * 3, [1, 2, 3])
    assert isinstance(nan, ItemError)
    assert "not numbers" in str(nan)
    assert isinstance(black, ItemError)
    assert "black" in str(black)
    assert isinstance(good, Image.Image)


def test_an_image_that_the_safety_checker_withholds_is_an_error(folder):
    paint = generator(folder)
    paint._pipeline.run_safety_checker = lambda image, device, dtype: (image, [True, False])
    first, second = paint.generate(["a", "b"], [control(0)] * 2, [1, 2])
    assert isinstance(first, ItemError)
    assert isinstance(second, Image.Image)


def test_mistakes_are_named(folder):
    with pytest.raises(UserError, match=r"scheduler=AutoencoderKL: .* no such scheduler"):
        generator(folder, scheduler="AutoencoderKL")
    with pytest.raises(UserError, match="holds no safety checker"):
        generator(folder, safety_checker=True)
