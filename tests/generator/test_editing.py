import numpy as np
import pytest
from PIL import Image

from dillema.config import build
from dillema.errors import ItemError, UserError
from dillema.generator.editing import EditingGenerator, instruction
from dillema.types import Counterfactual, Edit
from tests import tiny
from tests.test_config import composed

FOGGY = Counterfactual(
    "a foggy night on a street", (Edit("weather", "clear", "foggy"), Edit("time of day", "day", "night"))
)
RED = Counterfactual("a red car", (Edit("colour", "blue", "red"),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.kontext(tmp_path_factory.mktemp("kontext") / "pipeline")


@pytest.fixture(scope="module")
def editor(folder):
    """Returns the option as it is, but for the checkpoint and the size."""
    small = ("generator.width=64", "generator.height=32", "generator.steps=2", "generator.dtype=float32")
    # of 512 words, as the pipeline pads to, the few pixels would be lost
    cfg = composed(
        "generator=flux_kontext",
        f"generator.model={folder}",
        "+generator.arguments.max_sequence_length=16",
        *small,
    )
    made = build(cfg.generator)
    made.load()
    assert cfg.conditioning.parts == {}
    return made


def difference(a, b):
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


def test_an_image_depends_on_its_source_edits_and_seed_and_not_on_its_batch(editor):
    first, second = (
        tiny.Sample("white", lambda: tiny.png(np.full((32, 64, 3), 250, np.uint8))),
        tiny.sample(seed=2),
    )
    _, image = editor.generate([first, second], [RED, FOGGY], [{}, {}], [1, 2])
    (single,) = editor.generate([second], [FOGGY], [{}], [2])
    assert image.size == (64, 32)
    assert difference(image, single) == 0
    for sample, counterfactual, seed in [(first, FOGGY, 2), (second, RED, 2), (second, FOGGY, 3)]:
        (changed,) = editor.generate([sample], [counterfactual], [{}], [seed])
        assert difference(changed, image) > 30  # of 255: anyone sees it


def test_the_instruction_names_every_edit_and_the_scene():
    text = instruction(FOGGY)
    assert text.startswith("Change the weather from clear to foggy, and the time of day from day to night.")
    assert FOGGY.text in text
    insertion = Counterfactual("a car at night", (Edit("time of day", "", "night"),))
    assert instruction(insertion).startswith("Change the time of day to night.")
    assert instruction(Counterfactual("a red car", ())).startswith(
        "Change nothing. The image shows: a red car."
    )


def test_a_black_image_is_an_error(editor, monkeypatch):
    decode = editor._pipeline.vae.decode
    monkeypatch.setattr(
        editor._pipeline.vae, "decode", lambda latents, **options: (decode(latents, **options)[0] * 0 - 1,)
    )
    (black,) = editor.generate([tiny.sample()], [RED], [{}], [1])
    assert isinstance(black, ItemError)
    assert not isinstance(black, Image.Image)


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"FluxKontextPipeline, which takes no guidance"):
        EditingGenerator(folder, {"guidance": 3}).load()
