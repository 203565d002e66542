import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import torch
from omegaconf import OmegaConf

from dillema.context import JobContext
from dillema.downloads import list_opened_files
from dillema.errors import UserError
from dillema.fields import Weights
from dillema.job.prefetch import prefetch
from dillema.needs import list_needs
from tests import tiny

ROOT = Path(__file__).parents[2]
COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """The few addresses of the hub that a download asks for; `served` of the server are the files it sent."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_POST(self) -> None:
        self.asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        listing = parts[0] == "api"
        if parts[0] == "datasets":
            parts = parts[1:]
        repository = self.server.folder.joinpath(*(parts[2:4] if listing else parts[:2]))
        file = repository.joinpath(*parts[4:])
        headers = {"X-Repo-Commit": COMMIT}
        if listing and repository.is_dir():
            sizes = {
                p.relative_to(repository).as_posix(): p.stat().st_size
                for p in repository.rglob("*")
                if p.is_file()
            }
            if "paths-info" in parts:
                sizes = {name: size for name, size in sizes.items() if name in self.asked}
            if "tree" in parts or "paths-info" in parts:
                content = json.dumps(
                    [
                        {"type": "file", "path": name, "size": size, "oid": "b" * 40}
                        for name, size in sizes.items()
                    ]
                ).encode()
            else:
                files = [
                    {"rfilename": name, "size": size, "blobId": "b" * 40} for name, size in sizes.items()
                ]
                content = json.dumps(
                    {"_id": "1", "id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": files}
                ).encode()
            headers["Content-Type"] = "application/json"
        elif not listing and file.is_file():
            content = file.read_bytes()
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            if body:
                self.server.served.append(file.relative_to(self.server.folder).as_posix())
        else:
            headers["X-Error-Code"] = "EntryNotFound" if repository.is_dir() else "RepoNotFound"
            content = None
        self.send_response(404 if content is None else 200)
        for name, value in (headers | {"Content-Length": len(content or b"")}).items():
            self.send_header(name, str(value))
        self.end_headers()
        if body and content:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[ThreadingHTTPServer]:
    folder = tmp_path_factory.mktemp("hub")
    tiny.segmenter(folder / "tiny" / "segmenter", classes=19)
    tiny.generator(folder / "tiny" / "pipeline")
    index = folder / "tiny" / "pipeline" / "model_index.json"
    index.write_text(
        json.dumps(
            json.loads(index.read_text())
            | {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
        )
    )
    for name in (
        "segmenter/pytorch_model.bin",
        "segmenter/tf_model.h5",
        "segmenter/runs/model.safetensors",
        "pipeline/v1-5-pruned.safetensors",
        "pipeline/unet/diffusion_pytorch_model.fp16.safetensors",
        "pipeline/safety_checker/model.safetensors",
        "pipeline/text_encoder/model.onnx",
    ):
        decoy = folder / "tiny" / name
        decoy.parent.mkdir(exist_ok=True)
        decoy.write_bytes(bytes(20_000_000))
    (folder / "tiny" / "segmenter" / "vocab.txt").write_bytes(bytes(20_000_000))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.served = folder, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def start(folder, *command, **environment):
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "0",
        "COLUMNS": "120",
        **environment,
    }
    return subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True)


LOAD = """
import sys
from dillema.config import build, compose
cfg = compose(sys.argv[1:])
for block in (cfg.generator, cfg.model.segformer_cityscapes):
    build(block).load()
"""


def test_a_configuration_is_fetched_whole_and_then_needs_no_network(hub, tmp_path):
    models = [
        "model=[segformer_cityscapes,mini_segformer]",
        "model.segformer_cityscapes.model=tiny/segmenter",
        "generator.model=tiny/pipeline",
    ]
    address = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    listing = start(tmp_path, "-m", "dillema", "job=prefetch", "job.dry_run=true", *models, **address)
    assert listing.returncode == 0, listing.stderr
    assert not hub.served
    (line,) = (line for line in listing.stdout.splitlines() if "tiny/segmenter" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "tiny/segmenter",
        "4",
        "0.02 GB",
        "0.02 GB",
    ]
    assert "tiny/pipeline" in listing.stdout and "mini/weights" not in listing.stdout
    memory = [line for line in listing.stdout.splitlines() if "llm" in line or "generator" in line]
    assert len(memory) == 2 and all("cpu" in line and line.count(" GB") == 3 for line in memory)

    done = start(tmp_path, "-m", "dillema", "job=prefetch", *models, **address)
    assert done.returncode == 0, done.stderr
    assert "fetching tiny/segmenter, 0.02 GB" in done.stderr and "the run needs no network" in done.stderr
    wanted = {"model.safetensors", "config.json", "preprocessor_config.json", "vocab.txt"}
    assert {name for name in hub.served if "segmenter" in name} == {
        f"tiny/segmenter/{name}" for name in wanted
    }
    assert not any(
        decoy in name for name in hub.served for decoy in ("pruned", "fp16", "safety_checker", "onnx")
    )

    hub.served.clear()
    again = start(tmp_path, "-m", "dillema", "job=prefetch", *models, **address)
    assert "To fetch: 0.00 GB" in again.stderr and "fetching" not in again.stderr
    loaded = start(tmp_path, "-c", LOAD, *models, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert loaded.returncode == 0, loaded.stderr
    assert not hub.served


def test_without_a_network_the_missing_file_the_command_and_the_default_are_named(tmp_path):
    setting = "captioner.model=someone/lost"
    more = ["generator.lora=no/such/file.safetensors", "llm.model=lost.gguf"]
    done = start(tmp_path, "-m", "dillema", "experiment=quick", setting, *more, HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for stage in (
        "captioner.model=someone/lost: ",
        "generator.lora=no/such/file.safetensors: ",
        "llm.model=lost.gguf: ",
    ):
        assert stage in done.stderr  # all that is missing, before anything was done
    assert not list((tmp_path / "outputs" / "store").rglob("*.png"))
    for words in (
        "No weights for 'someone/lost'",
        str(tmp_path / "hf"),
        f"python -m dillema job=prefetch experiment=quick {setting} {more[0]} {more[1]}",
        "captioner=mini",
    ):
        assert words in done.stderr
    assert not list((tmp_path / "outputs").glob("2*/*"))  # a refused run leaves no folder
    done = start(tmp_path, "-m", "dillema", "job=prefetch", setting, *more[:1], HF_HUB_OFFLINE="1")
    assert (
        done.returncode == 1
        and "someone/lost is not a path on this machine, and its size cannot be found" in done.stderr
    )
    assert "Not on this machine either: no/such/file.safetensors" in done.stderr and ".. " not in done.stderr
    assert not list((tmp_path / "outputs").glob("2*/*"))  # nor does this job


SAMPLES = """
import sys
from dillema.config import build, compose
data = build(compose(sys.argv[1:]).dataset)
print([(data.classes[s.label], s.image.size) for s in data.samples()])
"""


def test_a_data_set_of_the_hub_is_fetched_too(hub, tmp_path):
    datasets = pytest.importorskip("datasets")
    data_folder = hub.folder / "tiny" / "pictures" / "data"
    data_folder.mkdir(parents=True)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    table = datasets.Dataset.from_dict({"image": [tiny.image(0), tiny.image(1)], "label": [1, 0]}, features)
    table.to_parquet(data_folder / "some.parquet")
    (data_folder / "unused.parquet").write_bytes(bytes(10_000_000))
    (data_folder.parent / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: validation\n    path: data/some.parquet\n---\n"
    )
    small = (
        "captioner=label",
        "llm=smollm2",
        "prompt=mini",
        "generator=mini",
        "conditioning=canny",
        "model=mini_resnet",
    )
    settings = ("dataset=huggingface", "dataset.path=tiny/pictures", "validity=none", *small)
    address = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    hub.served.clear()
    done = start(tmp_path, "-m", "dillema", "job=prefetch", *settings, **address)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "tiny/pictures" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "tiny/pictures (data set)",
        "1",
        "0.00 GB",
        "0.00 GB",
    ]
    assert "tiny/pictures/data/some.parquet" in hub.served and not any(
        "unused" in name for name in hub.served
    )
    loaded = start(tmp_path, "-c", SAMPLES, *settings, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert loaded.stdout == "[('dog', (64, 32)), ('cat', (64, 32))]\n", loaded.stderr
    again = start(tmp_path, "-m", "dillema", "job=prefetch", *settings, **address)
    assert again.returncode == 0 and "fetching" not in again.stderr


@dataclass
class Part:
    file: Weights[str | dict[str, str] | None] = None
    inner: list["Part"] | None = None
    checker: bool = True


@dataclass
class Published:
    url: str

    def downloads(self) -> list[str]:
        return [self.url]


def test_needs_are_found_within_back_ends_and_paths_are_none(tmp_path):
    part = Part("some/model", [Part(str(tmp_path)), Part({"a": "one/file/b.gguf"}), Part()], checker=False)
    found = [need for need in list_needs({"captioner": part}) if not need.is_local]
    assert {need.address: (need.setting, need.unused) for need in found} == {
        "some/model": ("captioner.file", {"file", "checker"}),
        "one/file/b.gguf": ("captioner.inner.file.a", {"file"}),
    }


def test_a_file_of_torch_s_cache_is_fetched_once_and_looked_at(hub, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torch.save({"weight": torch.ones(3)}, tmp_path / "w.pth")
    name = f"tiny-{hashlib.sha256((tmp_path / 'w.pth').read_bytes()).hexdigest()[:8]}.pth"
    (hub.folder / "a" / "b" / "main").mkdir(parents=True)
    # as the handler reads addresses: two words for the repository, two that are skipped
    (tmp_path / "w.pth").rename(hub.folder / "a" / "b" / name)
    url = f"http://127.0.0.1:{hub.server_port}/a/b/resolve/main/{name}"
    cfg = OmegaConf.create({"model": {"m": {"_target_": f"{__name__}.Published", "url": url}}})
    hub.served.clear()
    prefetch(JobContext(cfg, tmp_path))
    prefetch(JobContext(cfg, tmp_path))
    assert hub.served == [f"a/b/{name}"]
    assert (tmp_path / "torch" / "hub" / "checkpoints" / name).is_file()
    cfg.model.m.url = url.replace("tiny", "lost")
    with pytest.raises(UserError, match=r"lost-.* cannot be found: .*404"):
        prefetch(JobContext(cfg, tmp_path))


@pytest.mark.parametrize(
    ("files", "opened"),
    [
        (
            ["model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin"],
            ["model.safetensors"],
        ),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.fp16.safetensors",
            ],
            2,
        ),
        (
            ["pytorch_model.bin", "flax_model.msgpack", "README.md", "tokenizer.json", "spiece.model"],
            ["pytorch_model.bin", "tokenizer.json", "spiece.model"],
        ),
        (
            ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin", "config.json"],
            ["diffusion_pytorch_model.bin", "config.json"],
        ),
        (["model.onnx", "additional_chat_templates/tools.jinja"], ["additional_chat_templates/tools.jinja"]),
    ],
)
def test_what_from_pretrained_opens(files, opened):
    assert sorted(list_opened_files(files, [""])) == sorted(
        files[:opened] if isinstance(opened, int) else opened
    )
