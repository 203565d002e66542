"""Tests of all models that can be trained."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from dillema.model.callable import CallableModel
from dillema.model.module import ModuleModel
from dillema.model.timm import TimmClassification
from dillema.model.torchvision import TorchvisionClassification, TorchvisionSegmentation
from dillema.model.transformers import (
    TransformersClassification,
    TransformersMaskSegmentation,
    TransformersSegmentation,
)
from tests import tiny
from tests.model.networks import Classifier

IMAGES = [tiny.image(0), tiny.image(1)]


def of_transformers(kind, checkpoint):
    return lambda folder: kind("m", checkpoint(folder))


def of_torchvision(kind, name, classes):
    def make(folder):
        torch.manual_seed(0)
        options = {} if kind is TorchvisionClassification else {"weights_backbone": None}
        torch.save(
            torchvision.models.get_model(name, num_classes=classes, **options).state_dict(),
            folder / "weights.pth",
        )
        return kind("m", name, str(folder / "weights.pth"), classes, {0: 1, 1: 1, 2: 0})

    return make


def of_timm(folder):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=4).state_dict(), folder / "weights.pth")
    return TimmClassification("m", "test_resnet.r160_in1k", str(folder / "weights.pth"), 4)


def of_a_user(folder):
    torch.manual_seed(0)
    save_file(
        {f"net.{name}": value for name, value in Classifier(6).state_dict().items()},
        folder / "weights.safetensors",
    )
    return ModuleModel(
        "m",
        {"_target_": "tests.model.networks.Classifier", "classes": 6},
        str(folder / "weights.safetensors"),
        "net.",
    )


@pytest.mark.parametrize(
    "make",
    [
        of_transformers(TransformersClassification, tiny.classifier),
        of_transformers(TransformersSegmentation, tiny.segmenter),
        of_transformers(TransformersMaskSegmentation, tiny.mask_segmenter),
        of_torchvision(TorchvisionClassification, "squeezenet1_1", 5),
        of_torchvision(TorchvisionSegmentation, "lraspp_mobilenet_v3_large", 5),
        of_timm,
        of_a_user,
    ],
    ids=["classifier", "segmenter", "masks", "torchvision", "torchvision-masks", "timm", "module"],
)
def test_gradients_flow_through_the_answers_and_saved_weights_answer_as_the_network_did(make, tmp_path):
    model = make(tmp_path)
    assert model.trainable
    model.load()
    first = model.predict(IMAGES)
    logits = model.logits(IMAGES)
    (logits if isinstance(logits, torch.Tensor) else torch.stack(logits)).square().mean().backward()
    with torch.no_grad():
        for parameter in model.module.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad.sign()
    (tmp_path / "kept").mkdir()
    model.save(tmp_path / "kept")
    again = model.saved(tmp_path / "kept")
    again.load()
    for old, new, loaded in zip(first, model.predict(IMAGES), again.predict(IMAGES), strict=True):
        assert not new.requires_grad and not torch.allclose(old, new)
        torch.testing.assert_close(loaded, new)


def test_programs_and_functions_are_not_trainable():
    assert not ModuleModel("m", None, "program.pt").trainable
    assert not getattr(
        CallableModel("m", {"_target_": "tests.model.networks.brightness"}), "trainable", False
    )
    assert Path(TorchvisionClassification("m", "resnet18").saved(Path("kept")).checkpoint) == Path(
        "kept/model.safetensors"
    )
