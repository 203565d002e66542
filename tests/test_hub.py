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
    with pytest.raises(UserError, match=f"{tmp_path} is not a model that AutoModelForImageClassification can open"):
        hub.load(transformers.AutoModelForImageClassification, str(tmp_path), "model=mini_resnet")


def test_weights_cut_short_are_named(tmp_path):
    tiny.classifier(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="is not a model that AutoModelForImageClassification can open"):
        hub.load(transformers.AutoModelForImageClassification, str(tmp_path), "model=mini_resnet")


def test_a_checkpoint_without_a_head_is_not_given_a_random_one(tmp_path):
    tiny.segmenter(tmp_path)
    transformers.AutoModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"was not trained for this task: it lacks weights of SegformerForSemanticSegmentation \(decode_head"):
        hub.network(transformers.AutoModelForSemanticSegmentation, str(tmp_path), "model=mini_segformer", "cpu", "float32")


def test_without_a_network_the_answer_comes_at_once(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits to try again"))
    with pytest.raises(UserError, match="cannot be reached"):
        hub.load(transformers.AutoModelForImageClassification, "someone/some-model", "model=mini_resnet")
