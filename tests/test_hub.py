import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.utils import requires_backends

from dillema import hub
from dillema.errors import NoWeights, UserError
from tests import tiny


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_no_weights_and_no_network_is_said_in_words(offline):
    with pytest.raises(
        UserError, match=r"No weights for 'someone/some-model'.*(?s:.)*model=mini_resnet"
    ) as error:
        hub.load(transformers.AutoModelForImageClassification, "someone/some-model", "model=mini_resnet")
    assert "folder" in str(error.value)


def test_a_path_that_is_not_there_is_said_in_words(offline, tmp_path):
    with pytest.raises(UserError, match="no folder on this machine"):
        hub.load(
            transformers.AutoModelForImageClassification,
            str(tmp_path / "lost" / "model"),
            "model=mini_resnet",
        )


def test_a_folder_that_holds_another_kind_of_model_is_named(tmp_path):
    tiny.captioner(tmp_path)
    with pytest.raises(
        UserError, match=f"{tmp_path} is not a model that AutoModelForImageClassification can open"
    ):
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
    kind = transformers.AutoModelForSemanticSegmentation
    lacking = r"lacks weights of SegformerForSemanticSegmentation \(decode_head"
    with pytest.raises(UserError, match=f"was not trained for this task: it {lacking}"):
        hub.network(kind, str(tmp_path), "model=mini_segformer", "cpu", "float32")


def test_what_a_part_of_a_model_does_not_use_is_not_missing(tmp_path):
    """As transformers saved Mask2Former before 5.10: without the last norm of its Swin backbone."""
    tiny.mask_segmenter(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    unused = {name for name in tensors if ".swin.layernorm." in name}
    assert unused
    save_file({k: v for k, v in tensors.items() if k not in unused}, file, metadata={"format": "pt"})
    kind = transformers.AutoModelForUniversalSegmentation
    hub.network(kind, str(tmp_path), "model=mini_segformer", "cpu", "float32")


def test_without_a_network_the_answer_comes_at_once(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits to try again"))
    with pytest.raises(UserError, match="cannot be reached"):
        hub.load(transformers.AutoModelForImageClassification, "someone/some-model", "model=mini_resnet")


@pytest.fixture
def small_hub(monkeypatch, tmp_path):
    """Returns a function that starts a hub which has some/model and refuses its files."""
    servers = []

    def start(status, code):
        about = {"id": "some/model", "siblings": [], "gated": "manual" if code == "GatedRepo" else False}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                exists = self.path == "/api/models/some/model"
                self.send_response(200 if exists else status)
                if not exists:
                    self.send_header("X-Error-Code", code)
                content = json.dumps(about).encode() if exists else b""
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content if self.command == "GET" else b"")

            do_HEAD = do_GET

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)
        files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


GATED = r"some/model is gated: accept its conditions at https://huggingface.co/some/model.*hf auth login"


def test_a_gated_repository_is_named(small_hub):
    small_hub(403, "GatedRepo")
    with pytest.raises(UserError, match=GATED):
        hub.load(transformers.AutoModelForImageClassification, "some/model", "model=mini_resnet")
    with pytest.raises(UserError, match=GATED):
        hub.file("some/model/weights.gguf", "llm=smollm2")


def test_what_the_hub_does_not_have_is_no_trouble_of_the_network(small_hub):
    small_hub(404, "EntryNotFound")
    for name in ("some/model", "no/such"):
        with pytest.raises(NoWeights, match="hub does not have it, or keeps it private"):
            hub.load(transformers.AutoModelForImageClassification, name, "model=mini_resnet")
    with pytest.raises(NoWeights, match="hub does not have it, or keeps it private"):
        hub.file("some/model/weights.gguf", "llm=smollm2")


class Failing:
    """A class of models whose checkpoints cannot be opened because something else is missing."""

    __module__ = "transformers.models"

    def __init__(self, open_checkpoint):
        self.from_pretrained = open_checkpoint
        self.__name__ = "AutoModel"


def test_a_missing_package_is_named():
    needs_package = Failing(lambda *args, **options: requires_backends(Failing, "detectron2"))
    with pytest.raises(UserError, match=r"some/model needs a package that is not installed.*detectron2"):
        hub.load(needs_package, "some/model", "model=mini_resnet")


def test_missing_memory_is_said():
    too_large = Failing(lambda *args, **options: torch.empty(2**50))
    with pytest.raises(
        UserError, match=r"memory does not suffice for some/model: .*allocate(?s:.)*quantization"
    ):
        hub.load(too_large, "some/model", "model=mini_resnet")


def test_code_of_a_repository_is_never_run(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "model.py").write_text(f"open({str(marker)!r}, 'w').close()")
    configuration = {
        "model_type": "own",
        "auto_map": {"AutoConfig": "model.Config", "AutoModel": "model.Model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(configuration))
    with pytest.raises(UserError, match="needs code from its repository, which is never run"):
        hub.load(transformers.AutoModel, str(tmp_path), "model=mini_resnet")
    assert not marker.exists()


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bfloat16_computes_in_float16(monkeypatch, has_bfloat16, dtype):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: has_bfloat16)
    assert hub.placement("cuda", "auto") == ("cuda", dtype)
    assert hub.placement("cuda", "float32") == ("cuda", torch.float32)


def test_shared_weights_are_opened_once_while_there_is_room(tmp_path, monkeypatch):
    tiny.classifier(tmp_path)

    def open_network(dtype="float32"):
        kind = transformers.AutoModelForImageClassification
        return hub.network(kind, str(tmp_path), "model=mini_resnet", "cpu", dtype)

    with hub.sharing([str(tmp_path)]):
        first = open_network()
        hub.load(transformers.AutoImageProcessor, str(tmp_path), "model=mini_resnet")
        assert open_network() is first
        assert open_network("bfloat16") is not first  # another number type gives other answers
        full = psutil.virtual_memory()._replace(available=first.get_memory_footprint())
        monkeypatch.setattr(psutil, "virtual_memory", lambda: full)
        hub.load(transformers.AutoImageProcessor, str(tmp_path), "model=mini_resnet")
        assert open_network() is not first
    assert open_network() is not open_network()
