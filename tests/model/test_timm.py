import pytest
import torch
from safetensors.torch import save_file

from dillema.errors import NoWeights, UserError
from dillema.model.timm import TimmClassification
from tests import tiny

timm = pytest.importorskip("timm")
SMALL = "test_resnet"  # timm's own tests use it: half a million weights


def loaded(*arguments, **options):
    model = TimmClassification("m", *arguments, **options)
    model.load()
    return model


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model(SMALL, num_classes=1000).eval()


def published(network, path):
    torch.manual_seed(0)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)


def expected(network, images):
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    with torch.inference_mode():
        return network(torch.stack([transform(image) for image in images]))


def test_published_weights_come_from_the_hub_with_their_own_preprocessing(network, tmp_path, monkeypatch):
    model = TimmClassification("m", f"{SMALL}.r160_in1k")
    assert model.downloads() == [f"timm/{SMALL}.r160_in1k/model.safetensors"]
    folder = tmp_path / f"models--timm--{SMALL}.r160_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    published(network, folder / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model.load()
    images = [tiny.image(0, (300, 200)), tiny.image(1, (300, 200))]
    about = timm.create_model(f"{SMALL}.r160_in1k")
    about.load_state_dict(network.state_dict())
    torch.testing.assert_close(model.predict(images), expected(about.eval(), images))


def test_weights_of_a_file_and_classes_by_wordnet_id(network, tmp_path):
    published(network, tmp_path / "weights.safetensors")
    images = [tiny.image(0, (300, 200))]
    model = loaded(SMALL, str(tmp_path / "weights.safetensors"), class_map={"n01440764": 1, 217: 0})
    actual = expected(network, images)[:, [217, 0]].softmax(1)
    torch.testing.assert_close(model.predict(images).softmax(1), actual)


def test_mistakes_are_named(network, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has no model resnet19"):
        loaded("resnet19.a1_in1k")
    with pytest.raises(UserError, match=f"timm names no such weights; there are {SMALL}.r160_in1k"):
        loaded(f"{SMALL}.a1")
    published(network, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="does not hold the weights of"):
        loaded(SMALL, str(tmp_path / "weights.safetensors"), classes=7)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NoWeights, match=rf"timm/{SMALL}.r160_in1k/model.safetensors(?s:.)*model=mini_resnet"):
        loaded(f"{SMALL}.r160_in1k")
