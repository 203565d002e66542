import numpy as np
import pytest
import torch
from PIL import Image

from dillema.conditioning.canny import Canny
from dillema.conditioning.depth import Depth
from dillema.conditioning.detail import SegmentationDetail
from dillema.conditioning.several import Several
from dillema.config import build, package_file
from dillema.dataset.mini import MiniShift
from dillema.errors import ItemError, UserError
from dillema.generator.diffusers import ControlNetGenerator
from dillema.types import Control, Counterfactual
from tests import tiny
from tests.test_config import composed

CANNY_AND_DEPTH = Several({"a": Canny(), "b": Depth("none")})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.generator(tmp_path_factory.mktemp("generator") / "pipeline")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Returns a checkpoint without a ControlNet, and two ControlNets for it."""
    home = tmp_path_factory.mktemp("apart")
    tiny.stable_diffusion(home / "base", home / "canny")
    torch.manual_seed(1)
    tiny.controlnet(tiny.unet(cross_attention_dim=32)).save_pretrained(home / "depth")
    return home


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    return tiny.sdxl(tmp_path_factory.mktemp("sdxl"))


def generator(folder, **options):
    result = ControlNetGenerator(str(folder), **{"width": 64, "height": 32, "steps": 2} | options)
    result.load()
    return result


def nets(home, *names):
    return {name: str(home / name) for name in names}


def control(grey, weight=1.0, name="canny"):
    return {name: Control(Image.new("RGB", tiny.SIZE, (grey, grey, grey)), weight)}


def paint(generator, texts, controls, seeds, sources=None):
    samples = [tiny.sample(seed=s) for s in sources or [0] * len(texts)]
    return generator.generate(samples, [Counterfactual(text, ()) for text in texts], controls, seeds)


def difference(a, b):
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


def test_an_image_depends_on_its_prompt_control_weight_and_seed_and_not_on_its_batch(folder):
    painter = generator(folder)
    first, second = paint(painter, ["a red car", "a bus"], [control(0), control(255)], [1, 2])
    assert first.size == (64, 32)
    (solo,) = paint(painter, ["a bus"], [control(255)], [2])
    assert difference(solo, second) == 0
    others = [("snow", control(255), 2), ("a bus", control(0), 2), ("a bus", control(255, 0.2), 2)]
    for prompt, structure, seed in [*others, ("a bus", control(255), 3)]:
        (other,) = paint(painter, [prompt], [structure], [seed])
        assert difference(other, second) > 1


def bare(pipeline, text, control, seed, **options):
    """Returns the image of a pipeline as diffusers makes it."""
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(
        prompt=[text],
        negative_prompt=[options.pop("negative_prompt", "")],
        width=64,
        height=32,
        generator=[torch.Generator().manual_seed(seed)],
        output_type="pil",
        **control,
        **options,
    )
    return output.images[0]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("strength", [None, 0.8])
@pytest.mark.parametrize("kind", ["sd", "sdxl", "two"])
def test_an_image_is_the_one_that_diffusers_makes(parts, xl, kind, strength, guidance):
    home, names = xl if kind == "sdxl" else parts, ("canny", "depth") if kind == "two" else ("canny",)
    conditioning = CANNY_AND_DEPTH if kind == "two" else Canny()
    options = {"strength": strength, "guidance": guidance, "negative_prompt": "dark", "steps": 4}
    ours = generator(home / "base", controlnet=nets(home, *names), conditioning=conditioning, **options)
    inputs = {k: v for i, name in enumerate(names) for k, v in control(200 - 90 * i, 0.7, name).items()}
    (image,) = paint(ours, ["a bus"], [inputs], [2], sources=[4])

    import diffusers

    controlnets = [diffusers.ControlNetModel.from_pretrained(home / name) for name in names]
    controlnet = controlnets if kind == "two" else controlnets[0]
    pick = diffusers.AutoPipelineForText2Image if strength is None else diffusers.AutoPipelineForImage2Image
    checker = {} if kind == "sdxl" else {"safety_checker": None, "requires_safety_checker": False}
    pipeline = pick.from_pretrained(home / "base", controlnet=controlnet, **checker)
    structure = [c.image.resize((64, 32)) for c in inputs.values()]
    images = {"image": structure}
    if strength is not None:
        source = tiny.sample(seed=4).image.resize((64, 32), Image.Resampling.LANCZOS)
        images = {"image": [source], "control_image": structure, "strength": strength}
    images["controlnet_conditioning_scale"] = [0.7] * 2 if kind == "two" else 0.7
    text = {"negative_prompt": "dark", "num_inference_steps": 4, "guidance_scale": guidance}
    assert difference(bare(pipeline, "a bus", images, 2, **text), image) <= 1


@pytest.mark.parametrize("kind", ["sd", "sdxl", "two"])
@pytest.mark.parametrize("strength", [None, 0.9])
def test_guidance_can_end_after_a_share_of_the_steps(parts, xl, kind, strength):
    home, names = xl if kind == "sdxl" else parts, ("canny", "depth") if kind == "two" else ("canny",)
    conditioning = CANNY_AND_DEPTH if kind == "two" else Canny()
    inputs = {k: v for name in names for k, v in control(200, name=name).items()}

    def image(**options):
        fields = {"controlnet": nets(home, *names), "conditioning": conditioning, "strength": strength}
        (image,) = paint(generator(home / "base", steps=4, **fields, **options), ["a bus"], [inputs], [2])
        return image

    always, half, never = image(), image(guidance_share=0.5), image(guidance_share=0.0)
    assert difference(always, half) > 0 and difference(half, never) > 0
    assert difference(never, image(guidance=1.0)) == 0
    assert difference(always, image(guidance_share=0.99)) == 0  # of 4 steps


def test_the_weight_of_control_images_can_be_set_for_all(folder):
    half, full = generator(folder, control_weight=0.5), generator(folder)
    (image,), (same,) = paint(half, ["a"], [control(255)], [1]), paint(full, ["a"], [control(255, 0.5)], [1])
    assert difference(image, same) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_byte_of_the_small_worlds_images_depends_on_their_batch_or_on_the_cores(dtype):
    dataset = MiniShift(limit=3)
    conditioning = SegmentationDetail()
    samples = dataset.samples()
    controls = [{"segmentation_detail": conditioning.control(s, dataset, (256, 160))} for s in samples]
    texts = [Counterfactual(f"a street on a {weather} night", ()) for weather in ("snowy", "rainy", "foggy")]
    cores = torch.get_num_threads()
    model = package_file("dillema", "mini/weights/generator")
    painter = generator(model, width=256, height=160, guidance=1.5, dtype=dtype, device="cpu")
    try:
        torch.set_num_threads(2)
        batch = painter.generate(samples, texts, controls, [1, 2, 3])
        torch.set_num_threads(1)
        solo = [painter.generate(samples[i:], texts[i:], controls[i:], [1, 2, 3][i:])[0] for i in (2, 1, 0)]
    finally:
        torch.set_num_threads(cores)
    assert [image.tobytes() for image in batch] == [image.tobytes() for image in solo[::-1]]


@pytest.mark.slow
def test_compiled_networks_make_the_same_image(folder):
    (image,), (compiled,) = (
        paint(generator(folder, compile=compile), ["a bus"], [control(255)], [2]) for compile in (False, True)
    )
    assert difference(image, compiled) <= 1


def test_the_controlnet_of_the_conditioning_is_loaded(folder, parts):
    painter = generator(
        parts / "base", controlnet=nets(parts, "canny") | {"depth": "no/such"}, conditioning=Canny()
    )
    (image,), (full,) = (paint(g, ["a bus"], [control(255)], [2]) for g in (painter, generator(folder)))
    assert difference(image, full) == 0
    with pytest.raises(
        UserError, match=r"controlnet names none for canny, but for depth: set generator\.controlnet\.canny"
    ):
        generator(parts / "base", controlnet=nets(parts, "depth"), conditioning=Canny())


def test_only_what_is_in_use_has_to_be_downloaded(parts):
    nets = {"canny": "a/canny", "depth": "a/depth", "segmentation": "a/segmentation"}
    painter = ControlNetGenerator("a/base", nets, CANNY_AND_DEPTH, lora="a/b/lora.safetensors")
    assert painter.downloads() == ["a/base", "a/canny", "a/depth", "a/b/lora.safetensors"]


def test_several_controlnets_each_follow_their_own_image_and_weight(parts):
    both = generator(parts / "base", controlnet=nets(parts, "depth", "canny"), conditioning=CANNY_AND_DEPTH)

    def inputs(canny, depth, weights=(1.0, 1.0)):
        return control(canny, weights[0]) | control(depth, weights[1], "depth")

    first, second = paint(both, ["a bus", "a bus"], [inputs(0, 255), inputs(255, 0)], [2, 2])
    (solo,) = paint(both, ["a bus"], [inputs(255, 0)], [2])
    assert difference(solo, second) == 0
    assert difference(first, second) > 1
    for other in (inputs(255, 90), inputs(90, 0), inputs(255, 0, (0.5, 1.0)), inputs(255, 0, (1.0, 0.5))):
        (image,) = paint(both, ["a bus"], [other], [2])
        assert difference(image, second) > 1
    single = generator(parts / "base", controlnet=nets(parts, "canny"), conditioning=Canny())
    (image,) = paint(single, ["a bus"], [control(255)], [2])
    (without,) = paint(both, ["a bus"], [inputs(255, 0, (1.0, 0.0))], [2])
    assert difference(image, without) <= 1


@pytest.mark.parametrize("several", [False, True])
def test_strength_says_how_much_of_the_source_image_is_left(parts, several):
    names = ("canny", "depth") if several else ("canny",)
    options = {
        "controlnet": nets(parts, *names),
        "conditioning": CANNY_AND_DEPTH if several else Canny(),
        "steps": 10,
    }
    faint = generator(parts / "base", strength=0.3, **options)
    inputs = control(255) | (control(9, name="depth") if several else {})
    first, second = paint(faint, ["a bus"] * 2, [inputs] * 2, [1, 2], sources=[5, 6])
    (solo,) = paint(faint, ["a bus"], [inputs], [2], sources=[6])
    assert difference(solo, second) == 0
    (other,) = paint(faint, ["a bus"], [inputs], [2], sources=[5])
    assert difference(other, second) > 1
    (strong,) = paint(
        generator(parts / "base", strength=1.0, **options), ["a bus"], [inputs], [2], sources=[6]
    )
    assert difference(strong, second) > 1
    assert first.size == (64, 32)


@pytest.mark.parametrize("strength", [None, 0.8])
@pytest.mark.parametrize("names", [("canny",), ("canny", "depth")])
def test_stable_diffusion_xl(xl, names, strength):
    conditioning = CANNY_AND_DEPTH if len(names) > 1 else Canny()
    options = {"controlnet": nets(xl, *names), "conditioning": conditioning, "vae": str(xl / "vae")}
    painter = generator(xl / "base", strength=strength, steps=3, **options)
    inputs = [{k: v for name in names for k, v in control(grey, name=name).items()} for grey in (0, 255)]
    first, second = paint(painter, ["a red car", "a bus"], inputs, [1, 2], sources=[3, 4])
    (solo,) = paint(painter, ["a bus"], inputs[1:], [2], sources=[4])
    assert first.size == (64, 32)
    assert difference(solo, second) == 0
    (other,) = paint(painter, ["a bus"], inputs[:1], [2], sources=[4])
    assert difference(other, second) > 1


def test_another_autoencoder_replaces_the_checkpoints(xl):
    nets_xl = nets(xl, "canny")
    own, other = (generator(xl / "base", controlnet=nets_xl, vae=vae) for vae in (None, str(xl / "vae")))
    (first,), (second,) = (paint(g, ["a bus"], [control(0)], [1]) for g in (own, other))
    assert difference(first, second) > 1


def test_few_steps_with_the_scheduler_of_latent_consistency(parts):
    lcm = {"scheduler": "LCMScheduler", "steps": 4, "guidance": 1.5}
    fast = generator(parts / "base", controlnet=nets(parts, "canny"), **lcm)
    first, second = paint(fast, ["a red car", "a bus"], [control(0), control(255)], [1, 2])
    (solo,) = paint(fast, ["a bus"], [control(255)], [2])  # this scheduler draws noise at every step
    assert difference(solo, second) == 0 and difference(first, second) > 1


def test_slicing_changes_nothing_and_tiling_little(folder):
    options = {"width": 128, "height": 128}
    structure = {"canny": Control(Image.new("RGB", (128, 128), "white"))}
    plain, sliced = (
        paint(generator(folder, **options, slicing=slicing), ["a bus"], [structure], [1])[0]
        for slicing in (False, True)
    )
    assert difference(plain, sliced) <= 1
    tiled = generator(folder, **options, tiling=True)
    # otherwise there is one tile only
    tiled._pipeline.vae.tile_latent_min_size, tiled._pipeline.vae.tile_sample_min_size = 8, 64
    (image,) = paint(tiled, ["a bus"], [structure], [1])
    assert image.size == (128, 128)
    assert difference(plain, image) > 0


def test_another_scheduler_takes_over_the_settings_of_the_checkpoints(folder):
    scheduler = generator(folder, scheduler="UniPCMultistepScheduler")._pipeline.scheduler
    assert type(scheduler).__name__ == "UniPCMultistepScheduler"
    assert (scheduler.config.timestep_spacing, scheduler.config.prediction_type) == (
        "trailing",
        "v_prediction",
    )


def test_a_failed_image_does_not_take_the_others_with_it(folder, monkeypatch):
    painter = generator(folder)
    vae = painter._pipeline.vae
    decode = vae.decode

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one image after the other
    values = [torch.nan, -1.0]

    def broken(latents, **options):
        (pixels,) = decode(latents, **options)
        return (torch.full_like(pixels, values.pop(0)) if values else pixels,)

    vae.decode = broken
    nan, black, good = paint(painter, ["a", "b", "c"], [control(0)] * 3, [1, 2, 3])
    assert isinstance(nan, ItemError) and "not numbers" in str(nan)
    assert isinstance(black, ItemError) and "black" in str(black)
    assert isinstance(good, Image.Image)


def test_an_image_that_the_safety_checker_withholds_is_an_error(folder):
    painter = generator(folder)
    painter._pipeline.run_safety_checker = lambda image, device, dtype: (image, [True])
    (image,) = paint(painter, ["a"], [control(0)], [1])
    assert isinstance(image, ItemError) and "safety checker" in str(image)


def test_mistakes_are_named(folder, parts):
    with pytest.raises(UserError, match=r"scheduler=AutoencoderKL: .* no such scheduler"):
        generator(folder, scheduler="AutoencoderKL")
    with pytest.raises(UserError, match="holds no safety checker"):
        generator(folder, safety_checker=True)
    with pytest.raises(UserError, match=r"base holds no ControlNet: set generator\.controlnet"):
        generator(parts / "base")
    with pytest.raises(UserError, match="conditioning=none gives none"):
        generator(parts / "base", controlnet=nets(parts, "canny"), conditioning=Several({}))
    with pytest.raises(UserError, match="holds one ControlNet, and 2 conditionings are set"):
        generator(folder, conditioning=CANNY_AND_DEPTH)
    with pytest.raises(UserError, match=r"strength=0\.1: .* leave one of the 5 steps"):
        ControlNetGenerator("none", strength=0.1, steps=5)


@pytest.mark.parametrize(
    ("option", "conditioning"),
    [
        ("sd15", "soft_edge"),
        ("sd15_canny", "canny"),
        ("sd15_lcm", "soft_edge"),
        ("sd15_img2img", "soft_edge"),
        ("sd15", "segmentation_depth"),
        ("sdxl", "canny"),
    ],
)
def test_the_options_as_they_are_on_small_checkpoints(parts, xl, option, conditioning):
    home = xl if option == "sdxl" else parts
    names = {"segmentation_depth": ("segmentation", "depth")}.get(conditioning, (conditioning,))
    shape = [
        "generator.width=64",
        "generator.height=32",
        "generator.dtype=float32",
        f"generator.model={home}/base",
    ]
    changes = [
        f"generator.controlnet.{name}={home}/{'depth' if name == 'depth' else 'canny'}" for name in names
    ]
    own_changes = {"sd15_lcm": ["generator.lora=null"], "sdxl": [f"generator.vae={home}/vae"]}.get(option, [])
    several = [f"conditioning={conditioning}"] if len(names) > 1 else []
    cfg = composed(f"generator={option}", *several, *shape, *changes, *own_changes)
    painter = build(cfg.generator)
    painter.load()
    (image,) = paint(
        painter, ["a bus"], [{k: v for name in names for k, v in control(90, name=name).items()}], [1]
    )
    assert image.size == (64, 32)
