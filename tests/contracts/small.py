"""Settings with which an option runs on this machine: small random checkpoints in place of its weights."""

from PIL import Image

from dillema.types import Control
from tests import tiny
from tests.captioner import checkpoints as captioners
from tests.llm.checkpoints import TEMPLATE
from tests.llm.checkpoints import save as save_language_model
from tests.validity import checkpoints as gates


def captioner(option, folder):
    builders = {
        "mini": tiny.captioner, "blip": captioners.blip, "blip_large": captioners.blip,
        "blip2_opt27b": captioners.blip2, "blip2_opt67b": captioners.blip2, "git": captioners.git,
        "vit_gpt2": captioners.vit_gpt2, "florence2": captioners.florence2,
        "florence2_large": captioners.florence2, "qwen3_vl_2b": captioners.qwen3_vl,
        "qwen25_vl_3b": captioners.qwen3_vl, "smolvlm2": captioners.smolvlm,
        "smolvlm2_500m": captioners.smolvlm,
    }  # fmt: skip
    if option == "label":
        return []
    if option == "annotations":
        return ['captioner.template="a {weather} scene with {classes}"']
    if option not in builders:
        return None
    settings = [f"captioner.model={builders[option](folder)}", "captioner.dtype=float32"]
    settings += ["captioner.max_new_tokens=6", "captioner.device=cpu"]
    return settings


def llm(option, folder):
    if option in ("smollm2",) or option.startswith("llama2"):
        path = tiny.gguf(folder / "model.gguf", TEMPLATE)
        return [f"llm.model={path}"]
    if option == "qwen3_4b_transformers":
        return [f"llm.model={save_language_model(folder, TEMPLATE)}", "llm.dtype=float32"]
    return None


def conditioning(option, folder):
    if option == "depth":
        return [f"conditioning.model={tiny.depth(folder)}", "conditioning.device=cpu"]
    if option == "soft_edge":
        return [f"conditioning.model={tiny.hed(folder / 'ControlNetHED.pth', _first_channel)}"]
    exact = ("canny", "segmentation", "segmentation_ade20k", "segmentation_detail", "dataset_depth")
    return [] if option in exact else None


def generator(option, folder):
    small = ["generator.width=64", "generator.height=32", "generator.steps=2"]
    if option == "mini":
        return [f"generator.model={tiny.generator(folder / 'pipeline')}", *small]
    if option == "flux_kontext":
        return [
            f"generator.model={tiny.kontext(folder)}",
            *small,
            "generator.dtype=float32",
            "+generator.arguments.max_sequence_length=16",
        ]
    return None


def control():
    return Control(Image.new("RGB", tiny.SIZE, (90, 120, 60)), 1.0)


def validity(option, folder):
    builders = {
        "segmenter": ("segmenter", tiny.judge), "segmenter_cityscapes": ("segmenter", tiny.mask_segmenter),
        "segmenter_trainids": ("segmenter", tiny.mask_segmenter), "reader": ("reader", gates.reader),
        "features": ("features", gates.dinov2), "text": ("text", gates.sentence_encoder),
        "questions": ("questions", captioners.qwen3_vl), "detector": ("detector", gates.owlv2),
        "detector_grounding_dino": ("detector", gates.grounding_dino),
    } | {f"clip{preset}": ("clip", gates.clip) for preset in PRESETS}  # fmt: skip
    if option == "image":
        return []
    if option not in builders:
        return None
    name, build = builders[option]
    settings = [f"validity.{name}.model={build(folder)}", f"validity.{name}.device=cpu"]
    if name == "questions":
        settings += ["validity.questions.dtype=float32", "validity.questions.longest_side=64"]
    return settings


PRESETS = ("", "_lance", "_instructpix2pix", "_pascal_ea", "_cns_bench")


def model(option, folder):
    builders = {
        "mini_resnet": tiny.classifier, "mini_segformer": tiny.segmenter, "vit_base": tiny.classifier,
        "segformer_trainids": tiny.segmenter,
        "segformer_cityscapes": lambda folder: tiny.segmenter(folder, 19),
        "mask2former_cityscapes": tiny.mask_segmenter,
    }  # fmt: skip
    if option not in builders:
        return None
    return [f"model.{option}.model={builders[option](folder)}", f"model.{option}.device=cpu"]


def _first_channel(tensors):
    """Lets the red channel through the first block: weights of zeros give the same for every image."""
    tensors["block1.convs.0.weight"][0, 0, 1, 1] = 0.01
    tensors["block1.convs.1.weight"][0, 0, 1, 1] = 1
    tensors["block1.projection.weight"][0, 0] = 1
