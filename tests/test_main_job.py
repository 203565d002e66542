"""Runs the main job as a user does: the command, the weights of the package, a folder of images."""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
import torchvision
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet18

from dillema import run
from dillema.mini.export import export_shift
from tests import tiny

QUICK = ("experiment=quick", "generator.steps=2")


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dillema", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
    )


def dillema(folder: Path, *arguments: str, **environment: str) -> str:
    process = start(folder, *arguments, **environment)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def newest(folder: Path, pattern: str = "outputs/*/*/results.json") -> Path:
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime).parent


def outcome(run: Path) -> tuple[dict, dict[str, str]]:
    results = json.loads((run / "results.json").read_text())
    for changing in ("name", "seconds", "wall_seconds", "digest"):
        del results[changing]
    hashes = {
        str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in (run / "generated").rglob("*.png")
    }
    return results, hashes


def read_page(run: Path) -> str:
    return (run / "report.html").read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    dillema(folder, *QUICK)
    return folder


def test_a_run_leaves_what_it_promises(home: Path) -> None:
    folder = newest(home)
    results, images = outcome(folder)
    counts = {"sources": 4, "captions": 4, "counterfactuals": 4, "generated": 4, "placebos": 4, "failed": 0}
    assert results["counts"] | {"valid": 4} == counts | {"valid": 4}
    assert results["models"]["mini_segformer"]["all"]["original"]["mean_iou"] > 0.7  # it knows clear days
    assert len(images) == 8  # with their masks
    rows = [json.loads(line) for line in (folder / "generated" / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        assert (folder / "generated" / row["file_name"]).exists()
        for edit in row["edits"]:
            assert edit["original"] in row["caption"]
            assert (edit["phrase"] or edit["replacement"]) in row["counterfactual"]
    images = datasets.load_dataset(
        str(folder / "generated"), "all", split="train", cache_dir=str(home / "cache")
    )
    assert {row["image"].size for row in images} == {row["mask"].size for row in images} == {(256, 160)}
    assert {row["source"] for row in images} == {row["source"] for row in rows}  # val-street-0001, ...
    images.to_parquet(home / "set.parquet")
    assert all("mini_shift: Apache-2.0" in row["licences"] for row in images)
    assert results["sizes"] == {"256x160": 4} and "All images are 256 x 160 pixels" in read_page(folder)
    for name in ("report.html", "failures.jsonl", ".hydra/config.yaml", "dillema.log"):
        assert (folder / name).exists()
    with sqlite3.connect(home / "outputs" / "mlflow.db") as runs:
        assert runs.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]


MAIN = """
import sys
from dillema.__main__ import main
main()
print("imported:", *sys.modules)
"""


def test_a_second_run_computes_nothing_and_gives_the_same(home: Path) -> None:
    first = newest(home)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *QUICK], cwd=home, capture_output=True, text=True, check=True
    )
    output, imported = done.stderr, set(done.stdout.partition("imported:")[2].split())
    assert "pyarrow" in imported
    heavy = {"torch", "transformers", "diffusers", "llama_cpp", "lightning", "mlflow", "pandas"}
    assert not imported & heavy  # seconds of imports
    assert "loading" not in output
    assert "All images and answers of this run are in the store" in output
    assert outcome(newest(home)) == outcome(first)
    assert newest(home) != first


def test_a_sweep_shares_what_its_runs_have_in_common(home: Path) -> None:
    output = dillema(home, "-m", *QUICK, "conditioning.weight=0.5,0.7")
    assert output.count("caption: all 4 are in the store") == 2
    assert len(list(home.glob("multirun/*/*/*/results.json"))) == 2
    with sqlite3.connect(home / "outputs" / "mlflow.db") as runs:
        parents = runs.execute(
            "SELECT value, count(*) FROM tags WHERE key = 'mlflow.parentRunId' GROUP BY value"
        ).fetchall()
    assert [count for _, count in parents] == [2]


def test_classification_is_a_task_too(home: Path) -> None:
    dillema(home, "dataset=mini_imagenet", *QUICK)
    results, _ = outcome(newest(home))
    assert results["task"] == "classification"
    figures = results["models"]["mini_resnet"]["all"]
    assert figures["original"]["accuracy"] > 0.7
    assert figures["images"] == 4
    generated = newest(home) / "generated"
    images = datasets.load_dataset(
        str(generated), "all", split="train", cache_dir=str(home / "cache of classes")
    )
    labels = {row["label_name"]: row["label"] for row in images}
    assert len(images) == 4 and set(labels) <= set(results["classes"])
    if (generated / "images").exists():
        valid = torchvision.datasets.ImageFolder(generated / "images", allow_empty=True)
        assert set(valid.classes) <= set(labels) and len(valid) == results["counts"]["valid"]


@pytest.mark.slow  # on small checkpoints: tests/test_experiments.py
def test_shift_on_disk_is_read_like_the_real_one(home: Path) -> None:
    export_shift(home / "shift", "val", 2)
    dillema(home, "experiment=exported", "dataset.root=shift", "counterfactuals=1", "generator.steps=2")
    results, _ = outcome(newest(home))
    assert results["dataset"] == "shift"
    assert results["counts"]["generated"] == 2


@pytest.mark.slow  # on small checkpoints: tests/test_experiments.py
def test_photographs_in_the_layout_of_imagenet(home: Path) -> None:
    for wnid in ("n02109047", "n04467665"):
        (home / "imagenet" / "val" / wnid).mkdir(parents=True)
        tiny.image(len(wnid), (320, 240)).save(home / "imagenet" / "val" / wnid / f"{wnid}_1.JPEG")
    (home / "imagenet" / "val" / "n02109047" / "damaged.JPEG").write_bytes(b"\xff\xd8 no picture")
    tiny.generator(home / "pipeline")
    torch.manual_seed(0)
    save_file(resnet18().state_dict(), home / "resnet18.safetensors")
    dillema(
        home,
        "dataset=imagenet",
        "dataset.root=imagenet",
        "captioner=label",
        "captioner.template='a photo of a {label} on a sunny day'",
        "llm=smollm2",
        "generator.model=pipeline",
        "generator.controlnet=null",
        "validity=image",
        "generator.width=64",
        "generator.height=64",
        "model.resnet18.checkpoint=resnet18.safetensors",
        *QUICK,
    )
    folder = newest(home)
    results, _ = outcome(folder)
    counts = {"sources": 3, "captions": 2, "counterfactuals": 2, "generated": 2, "placebos": 2, "failed": 1}
    assert results["counts"] | {"valid": 2} == counts | {"valid": 2}
    (failure,) = map(json.loads, (folder / "failures.jsonl").read_text().splitlines())
    assert "damaged" in failure["id"]
    assert Image.open(next((folder / "generated" / "images").glob("*/*.png"))).size == (64, 64)


def test_a_finished_run_is_judged_and_reported_again_from_a_copy_of_its_folder(
    home: Path, tmp_path: Path
) -> None:
    dillema(home, *QUICK)
    copy = tmp_path / "copy"
    shutil.copytree(newest(home), copy)
    output = dillema(tmp_path, "job=judge", f"run={copy}", "validity.segmenter.min_agreement=0.99")
    assert "validity.segmenter.min_agreement: 0.5 before, 0.99 now" in output
    assert "before, 0 now, of 4" in output and "Rejected now: val-street-" in output
    judged = newest(tmp_path)
    results, _ = outcome(judged)
    assert results["counts"]["valid"] == 0 and results["gates"] == ["segmenter", "reader", "image"]
    before = json.loads((newest(home) / "results.json").read_text())
    before_all, after_all = (r["models"]["mini_segformer"]["all"] for r in (before, results))
    assert before_all == after_all
    assert "mask" in (judged / "report.html").read_text() and (judged / "generated" / "images").is_dir()
    (copy / "report.html").unlink()
    dillema(tmp_path, "job=report", f"run={copy}")
    assert (copy / "report.html").exists()


def test_the_same_run_from_python_leaves_the_same_and_no_state_of_hydra(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    folder = run(QUICK)
    assert outcome(folder.path) == outcome(newest(home, "outputs/*/*/results.json"))
    assert not GlobalHydra.instance().is_initialized()
    assert (home / "outputs" / "latest").resolve() == folder.path.resolve()
    assert "mini_segformer" in folder.models and len(list(folder.generated())) == 4


@pytest.mark.slow  # small back-ends are killed in test_pipeline.py and in tests/faults
def test_a_run_that_is_killed_goes_on_to_the_same_end(home: Path, tmp_path: Path) -> None:
    random_source = random.Random()
    for _ in range(3):
        process = start(tmp_path, *QUICK)
        try:
            process.communicate(timeout=random_source.uniform(3, 15))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    dillema(tmp_path, *QUICK)
    dillema(home, *QUICK)
    assert outcome(newest(tmp_path)) == outcome(newest(home))
