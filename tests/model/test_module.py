import lightning as L
import pytest
import torch
from safetensors.torch import save_file
from torchvision.transforms.functional import pil_to_tensor

from dillema.errors import UserError
from dillema.model.module import ModuleModel
from tests import tiny
from tests.model.networks import Classifier, LitClassifier, Segmenter

PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}
CLASSIFIER = {"_target_": "tests.model.networks.Classifier", "classes": 6}
IMAGES = [tiny.image(0), tiny.image(1)]


def predicted(*arguments, **options):
    model = ModuleModel("m", *arguments, **PLAIN | options)
    model.load()
    return model.predict(IMAGES)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Classifier(6)


@pytest.fixture
def expected(network):
    with torch.inference_mode():
        return network(torch.stack([pil_to_tensor(image) for image in IMAGES]) / 255)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_module_with_a_state_dict(network, expected, suffix, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(network.state_dict(), path)
    torch.testing.assert_close(predicted(CLASSIFIER, str(path)), expected)
    torch.testing.assert_close(predicted(CLASSIFIER, str(path), resize=16, crop=8).shape, expected.shape)


def test_a_checkpoint_of_lightning_fits_the_lightning_module_and_the_network_in_it(
    network, expected, tmp_path
):
    module = LitClassifier(6)
    module.net.load_state_dict(network.state_dict())
    trainer = L.Trainer(
        max_steps=0, logger=False, enable_checkpointing=False, enable_model_summary=False, accelerator="cpu"
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(1, 3, 2, 2)))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    lit = {"_target_": "tests.model.networks.LitClassifier", "classes": 6}
    torch.testing.assert_close(predicted(lit, str(tmp_path / "last.ckpt")), expected)
    torch.testing.assert_close(predicted(CLASSIFIER, str(tmp_path / "last.ckpt"), prefix="net."), expected)


def test_programs_of_torch_need_no_class(network, expected, tmp_path):
    example = torch.zeros(2, 3, 32, 64)
    torch.jit.trace(network, example).save(tmp_path / "program.pt")
    torch.export.save(torch.export.export(network, (example,)), tmp_path / "program.pt2")
    for name in ("program.pt", "program.pt2"):
        torch.testing.assert_close(predicted(None, str(tmp_path / name), trust=True), expected)
    torch.testing.assert_close(predicted(None, str(tmp_path / "program.pt")), expected)
    exported = ModuleModel("m", None, str(tmp_path / "program.pt2"), trust=True, **PLAIN)
    exported.load()  # for two images
    for logits in (exported.predict([*IMAGES, IMAGES[0]]), exported.logits([*IMAGES, IMAGES[0]])):
        torch.testing.assert_close(logits, expected[[0, 1, 0]])
    with pytest.raises(UserError, match=r"runs pickled code when it is opened.*set model\.m\.trust=true"):
        predicted(None, str(tmp_path / "program.pt2"))


def test_answers_of_a_segmenter_come_at_the_size_of_the_image(tmp_path):
    save_file(Segmenter().state_dict(), tmp_path / "weights.safetensors")
    logits = predicted(
        {"_target_": "tests.model.networks.Segmenter"},
        str(tmp_path / "weights.safetensors"),
        class_map={0: 2, 3: 0},
    )
    assert [tuple(image_logits.shape) for image_logits in logits] == [(3, 32, 64)] * 2


def test_mistakes_are_named(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(
        UserError,
        match=r"checkpoint=.*\.safetensors does not hold the weights of Classifier: size mismatch",
    ):
        predicted(CLASSIFIER | {"classes": 7}, str(tmp_path / "weights.safetensors"))
    with pytest.raises(UserError, match=r"model.m.checkpoint=lost.pth: there is no such file"):
        predicted(CLASSIFIER, "lost.pth")
    with pytest.raises(UserError, match=r"is no program of torch .* model.m.network._target_"):
        predicted(None, str(tmp_path / "weights.safetensors"))
    torch.save(network, tmp_path / "pickled.pth")
    with pytest.raises(UserError, match=r"holds pickled code \(.*Classifier.*torch\.save\(model\.state_dict"):
        predicted(CLASSIFIER, str(tmp_path / "pickled.pth"))
