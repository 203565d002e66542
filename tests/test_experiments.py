"""Runs the experiments as a user does, at smaller sizes.

Small checkpoints are in the place of the large ones in the cache that job=prefetch fills.
"""

import json
import shutil
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from diffusers import StableDiffusionControlNetPipeline
from omegaconf import OmegaConf
from PIL import Image

from dillema import run
from dillema.config import build, conf_dir
from dillema.llm.llama_cpp import LlamaCpp
from tests import tiny
from tests.captioner import checkpoints
from tests.dataset import test_shift
from tests.job.test_prefetch import Hub, start
from tests.llm.test_llama_cpp import CHATML
from tests.test_config import composed
from tests.validity import checkpoints as gates

RESNETS = ("resnet18", "resnet50", "resnet152")
SMALL = (
    "generator.width=64",
    "generator.height=32",
    "generator.dtype=float32",
    "captioner.dtype=float32",
    "save_controls=true",
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Returns a cache of the hub, with a small checkpoint for each name in conf/, and a cache of torch."""
    home = tmp_path_factory.mktemp("hub")

    def put(repository):
        return tiny.cached(home, repository)

    checkpoints.blip2(put("Salesforce/blip2-opt-6.7b-coco"), checkpoints.WORDS)
    checkpoints.qwen3_vl(put("Qwen/Qwen3-VL-2B-Instruct"), checkpoints.WORDS)
    for kind, bits, template, file in (
        ("llama", "Q5_K_M", None, put("TheBloke/Llama-2-13B-chat-GGUF") / "llama-2-13b-chat.Q5_K_M.gguf"),
        (
            "qwen3",
            "Q4_K_M",
            CHATML,
            put("unsloth/Qwen3-4B-Instruct-2507-GGUF") / "Qwen3-4B-Instruct-2507-Q4_K_M.gguf",
        ),
    ):
        tiny.quantised(tiny.gguf(home / f"{kind}.gguf", template, kind, unlikely="}"), file, bits)
    tiny.stable_diffusion(
        put("stable-diffusion-v1-5/stable-diffusion-v1-5"), put("lllyasviel/sd-controlnet-hed")
    )
    for name in ("control_v11p_sd15_seg", "control_v11f1p_sd15_depth", "control_v11p_sd15_canny"):
        tiny.controlnet(tiny.unet(cross_attention_dim=32)).save_pretrained(put(f"lllyasviel/{name}"))
    tiny.hed(put("lllyasviel/Annotators") / "ControlNetHED.pth", _brightness)
    tiny.depth(put("depth-anything/Depth-Anything-V2-Small-hf"))
    gates.clip(put("openai/clip-vit-large-patch14"))
    segformer = put("nvidia/segformer-b0-finetuned-cityscapes-1024-1024")
    tiny.segmenter(segformer, classes=19)
    mask2former = put("facebook/mask2former-swin-tiny-cityscapes-semantic")
    tiny.mask_segmenter(mask2former)
    for folder in (segformer, mask2former):
        _name_classes(folder)
    (home / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return home


def _name_classes(folder):
    """Gives a checkpoint the names of Cityscapes' classes, which the published ones have."""
    names = list(OmegaConf.load(conf_dir() / "model" / "class_map" / "cityscapes_shift.yaml"))
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): name for i, name in enumerate(names)}
    config["label2id"] = {name: i for i, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def resnets(hub):
    """Puts networks of torchvision into the cache of torch; they have no smaller size."""
    torch.manual_seed(0)
    for name, block in composed(f"model=[{','.join(RESNETS)}]").model.items():
        (url,) = build(block).downloads()
        torch.save(
            torchvision.models.get_model(name, zero_init_residual=True).state_dict(),
            hub / "torch" / "hub" / "checkpoints" / Path(url).name,
        )


def _brightness(tensors):
    """Makes a network that finds edges at bright pixels."""
    tensors["block1.convs.0.weight"][0, :, 1, 1] = 0.02
    tensors["block1.convs.1.weight"][0, 0, 1, 1] = tensors["block1.projection.weight"][0, 0] = 1


@pytest.fixture
def dillema(hub, tmp_path, monkeypatch, mlflow_tables):
    """Returns a function that runs a command in an empty folder without a network, and returns the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(hub / "torch"))
    Path("outputs").mkdir()
    shutil.copy(mlflow_tables, "outputs/mlflow.db")

    return lambda *overrides: run([f"hydra.run.dir={tmp_path}/outputs/day/time", *SMALL, *overrides]).path


@pytest.fixture
def generated(monkeypatch):
    """Returns the list of the calls of the diffusion pipeline, with their arguments."""
    calls, original = [], StableDiffusionControlNetPipeline.__call__

    def watched(self, *arguments, **options):
        calls.append(
            options
            | {
                "scheduler": type(self.scheduler).__name__,
                "controlnets": len(getattr(self.controlnet, "nets", [self.controlnet])),
            }
        )
        return original(self, *arguments, **options)

    monkeypatch.setattr(StableDiffusionControlNetPipeline, "__call__", watched)
    return calls


@pytest.fixture
def requests(monkeypatch):
    """Returns the list of the requests to the language model."""
    questions, original = [], LlamaCpp.ask

    def watched(self, messages, schema, seed):
        questions.append(messages)
        return original(self, messages, schema, seed)

    monkeypatch.setattr(LlamaCpp, "ask", watched)
    return questions


def outcome(folder, models, *controls, size=(64, 32)):
    """Checks the files that every run must write; returns its figures and the rows of its generated set."""
    results = json.loads((folder / "results.json").read_text())
    rows, failures = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in ("generated/metadata.jsonl", "failures.jsonl")
    )
    counts = results["counts"]
    assert (
        counts["captions"] == counts["sources"]
        and counts["generated"] == len(rows)
        and counts["valid"] == sum(row["valid"] for row in rows)
        and counts["failed"] == len(failures)
    )
    assert all(
        failure["message"] and "Error" not in failure["message"] for failure in failures
    )  # has a message: the language model writes nonsense
    for row in rows:
        assert Image.open(folder / "generated" / row["file_name"]).size == size
        for edit in row["edits"]:
            assert edit["original"] in row["caption"]
            assert (edit["phrase"] or edit["replacement"]).casefold() in row["counterfactual"].casefold()
        for name in controls:
            assert np.ptp(np.asarray(Image.open(folder / "generated" / row[f"{name}_file_name"]))) > 50
    page = (folder / "report.html").read_text()
    predicted = pq.read_table(folder / "predictions.parquet")["model"].to_pylist()
    assert list(results["models"]) == list(dict.fromkeys(predicted)) == list(models)
    for name in models:
        figures = results["models"][name]
        assert name in page and figures["images"] == counts["valid"]
        of_all = figures["all"]  # small random checkpoints as gates may reject all
        assert of_all["images"] == len(rows)
        assert of_all["drop"] == pytest.approx(
            of_all["original"][of_all["metric"]] - of_all["counterfactual"][of_all["metric"]]
        )
    return results, rows


def test_the_paper_on_shift(dillema, generated, requests):
    test_shift.pack(streets("continuous/images/1x/train/front"))
    results, rows = outcome(dillema("experiment=shift_paper"), ["segformer_cityscapes"], "soft_edge")
    assert (results["dataset"], results["task"], results["counts"]["sources"]) == ("shift", "segmentation", 4)
    assert 2 <= len(rows) <= 4
    for row in rows:
        sentences = row["caption"].split(". ")
        assert len(sentences) == 2 and len(set(sentences)) == 2  # two captions, sampled
        assert set(row["caption"].replace(".", "").split()) <= set(checkpoints.WORDS)
    for call in generated:
        assert (
            call["scheduler"],
            call["num_inference_steps"],
            call["guidance_scale"],
            call["controlnets"],
        ) == ("UniPCMultistepScheduler", 5, 7.5, 1)
        assert call["negative_prompt_embeds"].shape == call["prompt_embeds"].shape
    assert all("segments the images of a car's camera" in messages[0]["content"] for messages in requests)
    assert any(rows[0]["caption"] in messages[-1]["content"] for messages in requests)


def test_the_paper_on_imagenet(dillema, resnets, generated, requests):
    for wnid in ("n01440764", "n02109047"):
        photographs(Path("data/imagenet/train"), wnid)
    results, rows = outcome(dillema("experiment=imagenet_paper"), RESNETS, "soft_edge")
    assert (results["dataset"], results["task"], results["counts"]["sources"]) == (
        "imagenet",
        "classification",
        2,
    )
    assert len(rows) <= 10  # at most five of each source
    assert {row["label_name"] for row in rows} == {"tench", "Great Dane"}
    assert {(call["scheduler"], call["num_inference_steps"]) for call in generated} == {
        ("UniPCMultistepScheduler", 5)
    }
    assert any("The image belongs to the class: tench" in messages[-1]["content"] for messages in requests)


@pytest.fixture
def fetched(hub, dillema, tmp_path, monkeypatch):
    """Returns a function that prefetches the weights of a command into an empty cache.

    It downloads them from a hub with the small checkpoints.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.served = tmp_path / "served", []
    for home in hub.glob("models--*"):
        _, owner, name = home.name.split("--")
        (server.folder / owner).mkdir(parents=True, exist_ok=True)
        (server.folder / owner / name).symlink_to(home / "snapshots" / tiny.COMMIT)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def fetch(*overrides):
        done = start(
            tmp_path,
            "-m",
            "dillema",
            "job=prefetch",
            *overrides,
            HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
        )
        assert done.returncode == 0, done.stderr
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))

    yield fetch
    server.shutdown()


def test_shift_with_what_we_would_choose_today_without_a_network(dillema, fetched, generated, requests):
    fetched("experiment=modern")
    streets("discrete/images/val/front")
    # the vocabulary would know all spans of these captions, and the language model would not be asked
    folder = dillema("experiment=modern", "size=source", "prompt.spans=model")
    results, rows = outcome(
        folder, ["segformer_cityscapes", "mask2former_cityscapes"], "segmentation", "depth", size=(128, 80)
    )
    assert results["counts"]["sources"] == 2  # clear days only
    assert len(rows) >= 3
    assert {(call["scheduler"], call["num_inference_steps"], call["controlnets"]) for call in generated} == {
        ("UniPCMultistepScheduler", 20, 2)
    }
    assert all(call["controlnet_conditioning_scale"] == [0.9, 0.9] for call in generated)
    for row in rows:
        mask = np.asarray(Image.open(folder / "generated" / row["mask_file_name"]))
        np.testing.assert_array_equal(
            mask, test_shift.ids(10 * int(row["source"][:4]))
        )  # has the size and the classes of the source
    assert "as short as possible" in requests[0][0]["content"] and len(requests[0]) > 2  # with examples


def test_a_data_set_brings_what_suits_it(dillema, resnets, generated):
    photographs(Path("data/imagenet/val"), "n01440764")
    results, rows = outcome(dillema("dataset=imagenet"), ["resnet18"], "canny")
    assert results["counts"]["sources"] == 1 and rows and generated


def streets(view):
    folder = test_shift.write(Path("data/shift"), view, sequences=4, length=1)
    for seed, path in enumerate(folder.rglob("*.jpg")):
        tiny.image(seed, (128, 80)).save(path)
    return folder


def photographs(folder, wnid):
    (folder / wnid).mkdir(parents=True)
    picture = Image.new("RGB", (320, 240), (int(wnid[1:]) % 90, 20, 20))
    picture.paste("white", (80, 60, 240, 180))
    picture.save(folder / wnid / f"{wnid}_1.JPEG")
