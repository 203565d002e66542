"""The run folder as others read it: `datasets`, torchvision, and later versions of DILLEMA."""

import json
import shutil
import time
from dataclasses import dataclass, replace

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torchvision
from mlflow import MlflowClient
from omegaconf import OmegaConf
from PIL import Image

from dillema import report
from dillema.config import compose
from dillema.context import JobContext
from dillema.errors import UserError
from dillema.execution.local import Local
from dillema.job.compare import compare
from dillema.job.judge import judge
from dillema.job.report import report as write_report
from dillema.job.run import generate
from dillema.job.sync import sync
from dillema.run_folder import RunFolder
from dillema.runner import Runner
from dillema.store import Store

from .backends import SIZE, Gate, Generator, Model, Noise, make_pipeline, run_pipeline
from .golden.make import FOLDER as GOLDEN
from .golden.make import TASKS, make_run

SOME_REJECTED = 0.497  # as the least mean of the gate `brightness`


@dataclass
class Recordings(Noise):
    """Samples whose names hold those of splits, as SHIFT's do."""

    classes: tuple[str, ...] = ("sky", "road/path", "car")

    def samples(self):
        return [replace(sample, id=f"val-{sample.id}") for sample in super().samples()]


def run(tmp_path, task="segmentation", **parts):
    parts = {"gates": [Gate(least=SOME_REJECTED)], "models": [Model(task=task)]} | parts
    return run_pipeline(tmp_path / "run", tmp_path / "store", dataset=Recordings(task=task), **parts)[0]


def load(folder, tmp_path, *config):
    return datasets.load_dataset(
        str(folder.path / "generated"), *config, split="train", cache_dir=str(tmp_path / "cache")
    )


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def judge_again(folder, path, least):
    gate = {"_target_": "tests.backends.Gate", "least": least}
    cfg = {"run": str(folder.path), "validity": {"brightness": gate}, "name": "judged"}
    path.mkdir()
    return judge(JobContext(OmegaConf.create(cfg), path))


@pytest.mark.parametrize("task", TASKS)
def test_datasets_reads_the_images_that_count_with_labels_and_captions(tmp_path, task):
    folder = run(tmp_path, task)
    counted = [image for image in folder.generated() if image.verdict.valid]
    assert 0 < len(counted) < 12
    table = load(folder, tmp_path)
    assert len(table) == len(counted)
    for row, image in zip(table, counted, strict=True):
        assert (np.asarray(row["image"]) == np.asarray(Image.open(image.path))).all()
        assert (row["caption"], row["counterfactual"]) == (image.caption.text, image.counterfactual.text)
        assert row["edits"][0]["replacement"] == image.counterfactual.edits[0].replacement
        if task == "segmentation":
            assert row["mask"].size == SIZE and set(np.unique(row["mask"])) == {0, 1, 2}
        else:
            assert row["label_name"] == Recordings.classes[row["label"]] == image.label["label_name"]
    rejected = load(folder, tmp_path, "rejected")
    assert len(rejected) == 12 - len(counted) and all(rejected["reasons"])
    assert len(load(folder, tmp_path, "all")) == 12


@pytest.mark.parametrize("gates", [[], [Gate(least=SOME_REJECTED)]])
def test_the_generated_set_can_be_written_as_parquet(tmp_path, gates):
    folder = run(tmp_path, gates=gates)
    card = (folder.path / "generated" / "README.md").read_text()
    assert ("no gate has checked them" in card) == (not gates)
    table = load(folder, tmp_path)
    table.to_parquet(tmp_path / "set.parquet")
    again = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "set.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert again[0]["edits"] == table[0]["edits"] and again[0]["mask"].size == SIZE
    assert again["source"] == table["source"]


def test_torchvision_reads_the_images_that_count_from_folders_of_their_classes(tmp_path):
    folder = run(tmp_path, "classification")
    images = torchvision.datasets.ImageFolder(folder.path / "generated" / "images")
    assert images.classes == ["car", "road_path_1", "sky"]
    counted = {image.path: image.label["label_name"] for image in folder.generated() if image.verdict.valid}
    names = {"road_path_1": "road/path"}
    read_names = {path: names.get(images.classes[i], images.classes[i]) for path, i in images.samples}
    assert read_names == {str(path): name for path, name in counted.items()}


@pytest.mark.parametrize("task", TASKS)
def test_images_that_are_judged_again_lie_where_their_new_verdict_puts_them(tmp_path, task):
    folder = run(tmp_path, task)
    before = {path.relative_to(tmp_path): path.read_bytes() for path in folder.path.rglob("*.png")}
    for least, counted in ((0.0, 12), (1.0, 0)):
        judged = judge_again(folder, tmp_path / f"judged-{counted}", least)
        images = list(judged.generated())
        assert [image.id for image in images] == [image.id for image in folder.generated()]
        assert sum(image.verdict.valid for image in images) == counted
        assert len(list((judged.path / "generated" / "images").rglob("*.png"))) == counted
        config = "default" if counted else "rejected"
        assert load(judged, tmp_path, config)["source"] == [image.source for image in images]
    assert not any((judged.path / "generated" / "images").iterdir())  # no class folder without images
    assert before == {path.relative_to(tmp_path): path.read_bytes() for path in folder.path.rglob("*.png")}


def test_a_class_folder_has_a_name_that_every_file_system_takes(tmp_path):
    names = ("..", "a/b", "sun-lit \N{SUN} " * 40)
    folder = run_pipeline(
        tmp_path / "run", tmp_path / "store", dataset=Noise(3, "classification", classes=names)
    )[0]
    images = tmp_path / "run" / "generated" / "images"
    assert {image.path.parent.parent for image in folder.generated()} == {images}
    folders = sorted(path.name for path in images.iterdir())
    assert folders[:2] == ["_0", "a_b_1"] and len(folders[2].encode()) < 255 and folders[2].endswith("_2")


@pytest.mark.parametrize("task", TASKS)
def test_a_finished_run_of_this_version_is_read(tmp_path, task):
    shutil.copytree(GOLDEN / task, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    labels = folder.labels
    assert (labels.name, labels.task, labels.classes) == ("noise", task, ("sky", "road", "car"))
    images = list(folder.generated())
    assert [image.id for image in images] == ["scene-0_0", "scene-0_1", "scene-2_0", "scene-2_1"]
    for image in images:
        assert (image.source, image.group) == (image.id[:7], "video-" + str(int(image.id[6]) // 2))
        assert image.verdict.valid == (not image.verdict.reasons) == ("images" in image.path.parts)
        assert Image.open(image.path).size == Image.open(image.controls["grey"]).size == SIZE
        assert image.caption.text != image.counterfactual.text and image.quality["ssim"] < 1
    assert sum(image.verdict.valid for image in images) == folder.results["counts"]["valid"] == 2
    assert [image.id for image in folder.placebos()] == ["scene-0_placebo", "scene-2_placebo"]
    assert [(failure["step"], failure["id"]) for failure in folder.failures()] == [("source", "scene-1")]
    predictions = folder.predictions("brightest")
    assert len(predictions.pairs()[0]) == 4
    report.write(folder)
    page = (folder.path / "report.html").read_text()
    assert "scene-0_0" in page and "scene-1" in page


def schema(value):
    """Returns the keys and types of a JSON value."""
    if isinstance(value, dict):
        return {key: schema(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(schema(item)) for item in value})
    return type(value).__name__


@pytest.mark.parametrize("task", TASKS)
def test_a_run_writes_files_of_the_formats_that_are_kept(tmp_path, task):
    # where this fails, a format has changed: see tests/golden/make.py
    fresh, golden = make_run(task, tmp_path).path, GOLDEN / task
    contents = [json.loads((folder / "results.json").read_text()) for folder in (fresh, golden)]
    assert contents[0]["version"] == contents[1]["version"] and schema(contents[0]) == schema(contents[1])
    for name in ("generated/metadata.jsonl", "placebo/metadata.jsonl", "failures.jsonl"):
        rows, golden_rows = (read_lines(folder / name) for folder in (fresh, golden))
        assert schema(rows) == schema(golden_rows)
    schemas = [pq.read_schema(folder / "predictions.parquet") for folder in (fresh, golden)]
    assert schemas[0].equals(schemas[1], check_metadata=True)  # which hold the version
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*")) for folder in (fresh, golden)]
    assert files[0] == files[1]


def test_a_run_of_the_first_version_is_refused_in_words(tmp_path):
    old = str(GOLDEN / "version_1")
    refusal = r"version_1 was written by an older version of DILLEMA \(format 1, this version reads 2\)"
    context = JobContext(OmegaConf.create({"run": old, "validity": {}, "name": "x"}), tmp_path)
    for refuse in (write_report, judge, lambda context: compare(context, [old])):
        with pytest.raises(UserError, match=refusal):
            refuse(context)
    assert not any(tmp_path.iterdir())


def test_what_a_run_of_the_first_version_left_for_mlflow_is_sent(tmp_path, mlflow_tables, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(mlflow_tables, "mlflow.db")
    shutil.copytree(GOLDEN / "version_1", "outputs/day/old")
    uri = "sqlite:///mlflow.db"
    sync(JobContext(compose(["job=sync", f"tracking.uri={uri}"]), tmp_path), ["outputs/*/*"])
    client = MlflowClient(uri)
    (sent,) = client.search_runs([client.get_experiment_by_name("dillema").experiment_id])
    assert (sent.data.params, sent.data.metrics) == ({"seed": "0"}, {"net.drop": 1.0})
    files = {file.path for file in client.list_artifacts(sent.info.run_id)}
    assert files == {"config.yaml", "pairs.json"} and not (tmp_path / "outputs/day/old/unsent").exists()


def test_the_first_images_are_shown_while_a_run_goes_on_and_until_its_report(tmp_path):
    preview = report.Preview(tmp_path / "run")
    counts = []

    def after_batch(step, finished):
        preview.add(step, finished)
        exists = preview.path.exists()
        counts.append((step.name, preview.path.read_text().count('generated image"') if exists else 0))

    cfg = OmegaConf.create({"size": "generated", "save_controls": False, "name": "test"})
    runner = Runner(Store(tmp_path / "store"), Local(), after_batch=after_batch)
    pipeline = make_pipeline(dataset=Noise(30), generator=Generator(batch_size=20))
    folder = generate(JobContext(cfg, tmp_path / "run"), pipeline, runner, time.perf_counter())
    assert [count for name, count in counts if name == "generate"] == [20, 40, 48]
    assert [count for name, count in counts if name == "rewrite"][-1] == 0
    page = preview.path.read_text()
    assert page.count("data:image/jpeg") == 2 * 48 and "a rainy day on a street" in page
    assert "before any gate" in page and "validity=none" not in page
    report.write(folder)
    assert not preview.path.exists()


def test_the_first_images_of_a_run_without_gates_are_called_unchecked(tmp_path):
    preview = report.Preview(tmp_path / "run", checked=False)
    cfg = OmegaConf.create({"size": "generated", "save_controls": False, "name": "test"})
    runner = Runner(Store(tmp_path / "store"), Local(), after_batch=preview.add)
    generate(JobContext(cfg, tmp_path / "run"), make_pipeline(gates=[]), runner, time.perf_counter())
    page = preview.path.read_text()
    assert "No gate checks the images of this run (validity=none)." in page and "before any" not in page


def test_a_changed_figure_of_a_run_is_noticed(tmp_path):
    shutil.copytree(GOLDEN / "segmentation", tmp_path / "run")
    file = tmp_path / "run" / "results.json"
    results = json.loads(file.read_text())
    results["counts"]["valid"] += 1
    file.write_text(json.dumps(results))
    with pytest.raises(UserError, match=r"results\.json is damaged, or was changed by hand"):
        RunFolder.open(tmp_path / "run")


@pytest.mark.parametrize("name", ["../outside.png", "/outside/outside.png", 5])
def test_a_line_of_metadata_cannot_name_a_file_outside_of_the_run(tmp_path, name):
    shutil.copytree(GOLDEN / "segmentation", tmp_path / "run")
    file = tmp_path / "run" / "generated" / "metadata.jsonl"
    first, *others = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps(json.loads(first) | {"file_name": name}), *others]) + "\n")
    context = JobContext(
        OmegaConf.create({"run": str(tmp_path / "run"), "validity": {}, "name": "x"}), tmp_path
    )
    for read in (lambda: list(RunFolder.open(tmp_path / "run").generated()), lambda: judge(context)):
        with pytest.raises(UserError, match=r"metadata\.jsonl, line 1, is damaged: file_name must be text"):
            read()
