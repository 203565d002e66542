import pytest
import torch
import torchvision
from safetensors.torch import save_file

from dillema.errors import UserError
from dillema.model.torchvision import TorchvisionClassification, TorchvisionSegmentation
from tests import tiny


def loaded(*arguments, **options):
    model = TorchvisionClassification("m", *arguments, **options)
    model.load()
    return model


def loaded_segmentation(*arguments, **options):
    model = TorchvisionSegmentation("m", *arguments, **options)
    model.load()
    return model


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(num_classes=6)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_of_a_file_are_the_ones_that_predict(network, tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(network.state_dict(), path)
    images = [tiny.image(0, (300, 260)), tiny.image(1, (224, 400))]
    model = loaded("squeezenet1_1", str(path), classes=6)
    logits = model.predict(images)
    assert logits.shape == (2, 6)
    with torch.inference_mode():
        expected = network.eval()(
            torch.stack(
                [torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()(image) for image in images]
            )
        )
    torch.testing.assert_close(logits, expected)


def test_a_resnet_of_six_classes(tmp_path):
    torch.manual_seed(0)
    save_file(torchvision.models.resnet18(num_classes=6).state_dict(), tmp_path / "weights.safetensors")
    logits = loaded(
        "resnet18", str(tmp_path / "weights.safetensors"), classes=6, class_map={0: 1, 5: 1, 2: 0}
    ).predict([tiny.image(0, (300, 260))])
    assert logits.shape == (1, 2)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_a_segmenter_answers_at_the_size_of_the_image(tmp_path, auxiliary):
    torch.manual_seed(0)
    name = "fcn_resnet50" if auxiliary else "lraspp_mobilenet_v3_large"
    network = torchvision.models.get_model(
        name, num_classes=5, weights_backbone=None, **({"aux_loss": True} if auxiliary else {})
    )
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = [tiny.image(0, (90, 60)), tiny.image(1, (90, 60))]
    logits = loaded_segmentation(name, str(tmp_path / "weights.pth"), classes=5).predict(images)
    assert [tuple(image_logits.shape) for image_logits in logits] == [(5, 60, 90)] * 2
    with torch.inference_mode():
        pixels = torchvision.models.get_model_weights(name).DEFAULT.transforms()(images[0])
        answer = network.eval()(pixels[None])["out"]
    torch.testing.assert_close(
        logits[0], torch.nn.functional.interpolate(answer, (60, 90), mode="bilinear")[0], atol=1e-4, rtol=1e-3
    )


def test_mistakes_are_named(network, tmp_path):
    with pytest.raises(
        UserError,
        match=r"model.m.model=resnet19: torchvision has no such model for classification; it has .* resnet18",
    ):
        loaded("resnet19")
    with pytest.raises(
        UserError, match="has no such model for segmentation; it has deeplabv3_mobilenet_v3_large"
    ):
        loaded_segmentation("resnet18")
    with pytest.raises(UserError, match="there are IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"):
        loaded("resnet50", "IMAGENET1K_V9")
    with pytest.raises(UserError, match="there is no such file"):
        loaded("resnet18", str(tmp_path / "lost.pth"))
    torch.save(network.state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other.pth does not hold the weights of SqueezeNet: size mismatch"):
        loaded("squeezenet1_1", str(tmp_path / "other.pth"), classes=7)


def test_weights_that_cannot_be_downloaded_are_named_with_the_place_to_put_them(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("unreachable")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"resnet18-f37072fd.pth and put it into .*checkpoints"):
        loaded("resnet18")
