"""Which gates are refused because they depend on a model under test."""

import json

import pytest
from transformers.models.auto import modeling_auto

from dillema.families import find_family, find_family_in_name
from dillema.gate_check import describe_unseen_masks, find_dependent_gates

TRANSFORMERS = "dillema.model.transformers.TransformersSegmentation"
SEGMENTER = "dillema.validity.segmenter.SegmenterGate"
TIMM = "dillema.model.timm.TimmClassification"
TORCHVISION = "dillema.model.torchvision.TorchvisionClassification"
MODULE = "dillema.model.module.ModuleModel"
CLIP = "dillema.validity.clip.ClipGate"


def find_mistakes(model, gate, target=SEGMENTER):
    model = {"_target_": TRANSFORMERS, "model": model} if isinstance(model, str) else model
    return list(find_dependent_gates({"tested": model}, {"gate": {"_target_": target, "model": gate}}))


@pytest.fixture(autouse=True)
def no_downloads(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    ("model", "gate", "family", "where"),
    [
        ("me/my-segformer", "nvidia/segformer-b5-finetuned-cityscapes-1024-1024", "segformer", "model"),
        ({"_target_": TORCHVISION, "model": "resnet18"}, "microsoft/resnet-50", "resnet", "model"),
        ({"_target_": TIMM, "model": "convnextv2_tiny.fcmae"}, "me/convnextv2-base", "convnext", "model"),
        ({"_target_": TIMM, "model": "convnext_tiny.in12k"}, "me/convnextv2-base", "convnext", "model"),
        ({"_target_": MODULE, "network": {"_target_": "torchvision.models.resnet50"}},
         "timm/resnet50d.a1_in1k", "resnet", "network._target_"),
        ("facebook/mask2former-swin-tiny-cityscapes-semantic", "me/our-mask2former", "mask2former", "model"),
    ],
)  # fmt: skip
def test_a_gate_of_the_family_of_a_model_under_test_is_refused(model, gate, family, where):
    (mistake,) = find_mistakes(model, gate)
    assert mistake.startswith(
        f"validity.gate.model: {gate} is of the same family ({family}) as a model under"
    )
    assert f"(model.tested.{where})" in mistake


@pytest.mark.parametrize(
    ("model", "gate"),
    [
        ("me/my-segformer", "you/my-clip"),
        ("me/my-segformer", "facebook/mask2former-swin-tiny-cityscapes-semantic"),
        ("microsoft/swin-tiny-patch4-window7-224", "facebook/mask2former-swin-tiny-cityscapes-semantic"),
        ("google/vit-base-patch16-224", "openai/clip-vit-large-patch14"),
        ("facebook/deit-base-patch16-224", "google/vit-base-patch16-224"),
        ("facebook/dinov3-vits16-pretrain-lvd1689m", "facebook/dinov2-base"),
        ("me/owl-finder-resnet-50", "google/owlv2-base-patch16-ensemble"),
        ("facebook/convnext-tiny-224", "openmmlab/upernet-convnext-tiny"),
    ],
)
def test_a_gate_of_another_family_is_accepted(model, gate):
    assert find_mistakes(model, gate, CLIP) == []


def test_the_config_of_weights_tells_their_family_whatever_their_name(tmp_path):
    for folder, config in (
        ("vit", {"model_type": "segformer"}),
        ("a", {"model_type": "timm_wrapper", "architecture": "resnetv2_50"}),
        ("b", {"model_type": "my_own_net"}),
        ("my-swin", {}),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
    families = {name: find_family(str(tmp_path / name)) for name in ("vit", "a", "b", "my-swin")}
    assert families == {"vit": "segformer", "a": "resnet", "b": "my_own_net", "my-swin": "swin"}


def test_every_network_that_transformers_opens_for_images_has_a_family():
    types = {
        name
        for task in ("IMAGE_CLASSIFICATION", "SEMANTIC_SEGMENTATION", "UNIVERSAL_SEGMENTATION")
        for name in getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")
    }
    unknown = [name for name in sorted(types - {"timm_wrapper"}) if not find_family_in_name(name)]
    assert not unknown, "add them to dillema/families.py"


def test_gates_that_compare_no_masks_are_told_apart():
    sentence = describe_unseen_masks({"clip": {"_target_": CLIP}, "reader": {"_target_": CLIP}})
    assert sentence.startswith(
        "no gate compares the images with their masks: validity=[clip,reader,segmenter_"
    )
    assert describe_unseen_masks({"clip": {"_target_": CLIP}, "segmenter": {"_target_": SEGMENTER}}) == ""
    assert describe_unseen_masks({}) == ""  # validity=none is said elsewhere
    assert describe_unseen_masks({"gone": {"_target_": "no_such_package.Gate"}, "broken": {}}) == ""
