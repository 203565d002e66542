import pytest
import transformers

from dillema import hub
from dillema.errors import UserError
from tests import tiny


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_no_weights_and_no_network_is_said_in_words(offline):
    with pytest.raises(UserError, match=r"No weights for 'someone/some-model'.*(?s:.)*model=mini_resnet") as error:
        hub.load(transformers.AutoModelForImageClassification, "someone/some-model", "model=mini_resnet")
    assert "folder" in str(error.value)


def test_a_path_that_is_not_there_is_said_in_words(offline, tmp_path):
    with pytest.raises(UserError, match="no folder on this machine"):
        hub.load(transformers.AutoModelForImageClassification, str(tmp_path / "lost" / "model"), "model=mini_resnet")


def test_a_folder_that_holds_another_kind_of_model_is_named(tmp_path):
    tiny.captioner(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path} is not a model that transformers can open"):
        hub.load(transformers.AutoModelForImageClassification, str(tmp_path), "model=mini_resnet")


def test_weights_cut_short_are_named(tmp_path):
    tiny.classifier(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="is not a model that transformers can open"):
        hub.load(transformers.AutoModelForImageClassification, str(tmp_path), "model=mini_resnet")
