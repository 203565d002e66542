"""Generators: they run in each type of number, repeat themselves, and agree with the CPU."""

import numpy as np
import pytest
from PIL import Image

from dillema.conditioning.canny import Canny
from dillema.conditioning.detail import SegmentationDetail
from dillema.config import build
from dillema.dataset.mini import MiniShift
from dillema.generator.editing import EditingGenerator
from dillema.types import Counterfactual, Edit
from tests import tiny
from tests.generator.test_diffusers import CANNY_AND_DEPTH, control, generator, nets, paint
from tests.gpu.small import DEVICE, DTYPES, assert_on_device
from tests.test_config import composed

pytestmark = pytest.mark.gpu

KINDS = ("one ControlNet", "two ControlNets", "SDXL")
LEVELS = 2  # of 255, by which images of other batches, devices and placements may differ, on average


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Returns a folder with a checkpoint without a ControlNet, and two ControlNets for it."""
    folder = tmp_path_factory.mktemp("sd")
    tiny.stable_diffusion(folder / "base", folder / "canny")
    tiny.controlnet(tiny.unet(cross_attention_dim=32)).save_pretrained(folder / "depth")
    return folder


@pytest.fixture(scope="module")
def homes(home, tmp_path_factory):
    """Returns the folder of each kind."""
    return {kind: home for kind in KINDS} | {"SDXL": tiny.sdxl(tmp_path_factory.mktemp("sdxl"))}


def load(homes, kind, **options):
    names = ("canny", "depth") if kind == "two ControlNets" else ("canny",)
    conditioning = CANNY_AND_DEPTH if len(names) > 1 else Canny()
    home = homes[kind]
    options = {"device": DEVICE, "controlnet": nets(home, *names), "conditioning": conditioning} | options
    return generator(home / "base", **options)


def images_of(generator, seeds=(1, 2, 3)):
    controls = [control(50 * seed) | control(200, name="depth") for seed in seeds]
    names = generator.controlnet
    used = [{name: given[name] for name in names} for given in controls]
    return paint(generator, ["a red car", "a bus", "snow"][: len(seeds)], used, seeds, sources=seeds)


def mean_difference(images, others):
    pairs = zip(images, others, strict=True)
    return max(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() for a, b in pairs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strength", [None, 0.8])
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_painted_and_the_same_seeds_give_the_same_images(homes, kind, strength, dtype):
    backend = load(homes, kind, strength=strength, steps=3, dtype=dtype)
    assert_on_device(backend._pipeline.unet)
    first, second = images_of(backend), images_of(backend)
    assert all(isinstance(image, Image.Image) and image.size == tiny.SIZE for image in first)
    assert [image.tobytes() for image in first] == [image.tobytes() for image in second]
    other_seeds = images_of(backend, (4, 5, 6))
    assert mean_difference(first, other_seeds) > LEVELS


@pytest.mark.parametrize("strength", [None, 0.8])
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_those_of_the_cpu(homes, kind, strength):
    on_device = images_of(load(homes, kind, strength=strength, steps=3))
    on_cpu = images_of(load(homes, kind, strength=strength, steps=3, device="cpu"))
    assert mean_difference(on_device, on_cpu) <= LEVELS


@pytest.mark.parametrize("kind", KINDS)
def test_images_do_not_depend_on_their_batch(homes, kind):
    backend = load(homes, kind)
    together = images_of(backend)
    assert mean_difference(together[:1], images_of(backend, (1,))) <= LEVELS


@pytest.mark.parametrize(
    "option",
    [{"offload": "model"}, {"offload": "sequential"}, {"slicing": True}, {"guidance_share": 0.99}],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_saves_memory_or_time_leaves_the_images_as_they_are(homes, kind, option):
    plain, changed = images_of(load(homes, kind)), images_of(load(homes, kind, **option))
    assert mean_difference(plain, changed) <= LEVELS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_an_offloaded_pipeline_paints_in_every_type_of_number(homes, offload, dtype):
    images = images_of(load(homes, "two ControlNets", offload=offload, dtype=dtype))
    assert all(isinstance(image, Image.Image) for image in images)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_in_tiles_is_that_of_the_cpu(homes, kind):
    sizes = {"width": 128, "height": 128}
    on_device = images_of(load(homes, kind, tiling=True, **sizes))
    on_cpu = images_of(load(homes, kind, tiling=True, device="cpu", **sizes))
    assert mean_difference(on_device, on_cpu) <= LEVELS
    assert mean_difference(on_device, images_of(load(homes, kind, **sizes))) > LEVELS  # tiles have borders


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_editing_pipeline_edits(dtype, tmp_path):
    arguments = {"max_sequence_length": 16}
    sizes = {"width": 64, "height": 32, "steps": 2}
    backend = EditingGenerator(tiny.kontext(tmp_path), arguments, **sizes, dtype=dtype, device=DEVICE)
    backend.load()
    edit = Counterfactual("a foggy car", (Edit("weather", "clear", "foggy"),), caption="a clear car")

    def images(*sources):
        return backend.generate([tiny.sample(seed=s) for s in sources], [edit] * 2, [{}] * 2, [1, 2])

    first, second, other = images(0, 1), images(0, 1), images(2, 3)
    assert all(isinstance(image, Image.Image) and image.size == (64, 32) for image in first)
    assert mean_difference(first, second) == 0 < mean_difference(first, other)


def test_the_generator_of_the_small_world_paints_as_shipped():
    dataset = MiniShift(limit=2)
    samples = dataset.samples()
    texts = [Counterfactual(f"a street on a {weather} night", ()) for weather in ("snowy", "foggy")]
    conditioning = SegmentationDetail()
    controls = [{conditioning.name: conditioning.control(s, dataset, (256, 160))} for s in samples]
    results = []
    for device in (DEVICE, "cpu"):
        backend = build(composed("generator=mini", f"generator.device={device}").generator)
        backend.load()
        results.append(backend.generate(samples, texts, controls, [1, 2]))
    assert mean_difference(*results) <= 2 * LEVELS
