"""Tells which family of networks weights belong to, such as "segformer"."""

import json
import re
from pathlib import Path

NAMES = """
alexnet align altclip beit bit blip botnet caformer cait chinese_clip clip clipseg coatnet
conditional_detr convformer convit convmixer convnext crossvit cvt d_fine dab_detr darknet data2vec davit
deeplab deformable_detr deim deit densenet depth_anything detr dinat dino dinov2 dinov3 dla donut_swin dpn
dpt edgenext efficientformer efficientnet efficientvit eomt eva fastvit fcn focalnet gcvit ghostnet
googlenet grounding_dino hgnet hiera hrnet ijepa imagegpt inception inception_next lcnet levit lraspp
lw_detr mambaout mask2former maskformer maxvit metaclip mm_grounding_dino mnasnet mobilenet mobileone
mobilevit mvit nasnet nextvit nfnet omdet_turbo oneformer owlv2 owlvit perceiver poolformer pp_lcnet pvt
regnet regnetx regnety repvgg res2net resmlp resnest resnet resnext rexnet rf_detr rt_detr rtdetr sam
sapiens segformer seggpt senet seresnet seresnext shieldgemma shufflenet siglip siglip2 squeezenet
swiftformer swin table_transformer textnet tinynet tipsv2 tresnet unet upernet vgg videomt visformer vit
vit_mae vit_msn vitamin vitdet vovnet xception xcit yolo yolos
"""
"""The architectures of images in transformers, timm and torchvision, without version and size."""

FAMILIES = frozenset(NAMES.split())

FIRST_FAMILY = re.compile(f"(?:^|_)({'|'.join(sorted(FAMILIES, key=len, reverse=True))})(?=_|$)")
VERSION = re.compile(r"v?\d+([a-z]\d*)?$")  # of convnextv2, resnet18, resnet50d


def find_family(weights: str) -> str:
    """Returns the family of a file, a folder or a hub id; "" if it is unknown.

    It is read from the config.json of a folder, or of a downloaded repository. Otherwise the name tells it.
    """
    if Path(weights).exists():
        return _read_family(Path(weights, "config.json")) or find_family_in_name(Path(weights).stem)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(weights, "config.json")
    except HFValidationError:  # a path that does not exist
        return ""
    family = _read_family(Path(cached)) if isinstance(cached, str) else ""
    return family or find_family_in_name(weights.rpartition("/")[2])


def find_family_in_name(name: str) -> str:
    """Returns the first family that a name has as a whole word; "" without one.

    The first is that of the whole network: mask2former-swin-tiny is no Swin, clip-vit-large no ViT.
    """
    words = re.split(r"[^a-z0-9]+", name.lower())
    plain_words = [word if word in FAMILIES else VERSION.sub("", word) for word in words]
    match = FIRST_FAMILY.search("_".join(filter(None, plain_words)))
    return match[1] if match else ""


def _read_family(file: Path) -> str:
    """Returns the family in a config.json of transformers; "" in other files."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        model_type = str(config.get("model_type", ""))
        name = str(config["architecture"]) if model_type == "timm_wrapper" else model_type
    except (OSError, ValueError, AttributeError, KeyError):
        return ""
    return find_family_in_name(name) or model_type
