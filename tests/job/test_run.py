import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import open_dict

from dillema.config import compose
from dillema.config_check import check
from dillema.context import JobContext, group_options
from dillema.errors import NoWeights, UserError
from dillema.job import links
from dillema.job.links import point_running
from dillema.job.run import build_pipeline, run
from dillema.report.words import points
from dillema.run_writer import RunWriter
from tests.backends import Backend

SMALL = {
    "dataset": "Noise",
    "captioner": "Captioner",
    "prompt": "Editor",
    "conditioning": "Conditioning",
    "generator": "Generator",
    "validity": "Gate",
    "model": "Model",
}


@pytest.fixture
def start(tmp_path, monkeypatch, mlflow_tables):
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    shutil.copy(mlflow_tables, "outputs/mlflow.db")

    def start(folder, *overrides, sweep=None, **fields):
        """Runs the job on small back-ends, as Hydra would."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        cfg = compose(overrides)
        options = group_options(cfg.hydra.runtime.choices)
        with open_dict(cfg):
            for group, name in SMALL.items():
                block = {"_target_": f"tests.backends.{name}", **fields.get(group, {})}
                cfg[group] = {"small": block} if group in ("model", "validity") else block
            del cfg["hydra"]
        run(JobContext(cfg, Path(folder), tuple(overrides), options, sweep))

    return start


def tracked_runs():
    client = MlflowClient(f"sqlite:///{Path('outputs/mlflow.db').resolve()}")
    return client.search_runs(
        [client.get_experiment_by_name("dillema").experiment_id], order_by=["attributes.start_time ASC"]
    )


@pytest.mark.parametrize("option", ["folder", "huggingface"])
def test_data_of_ones_own_tests_no_model_that_nobody_named(option, tmp_path, caplog):
    caplog.set_level("INFO")
    context = JobContext(compose([f"dataset={option}"]), tmp_path)
    assert build_pipeline(context).models == []
    assert "No model is tested: add model=..." in caplog.text
    with pytest.raises(UserError, match=r"model: job=retrain needs a model to train: add model="):
        check(compose([f"dataset={option}", "job=retrain"]))


@pytest.mark.parametrize(
    ("masks", "model", "words"),
    [
        ("masks", "mini_resnet", r"a classifier cannot be tested on masks \(segmentation\), which folder h"),
        ("masks", "convnextv2_tiny", r"a classifier cannot be tested on masks \(segmentation\)"),
        ("null", "mini_segformer", r"a segmenter cannot be tested on labels of whole images"),
    ],
)
def test_a_model_of_another_task_is_refused_before_anything_is_loaded(masks, model, words, tmp_path):
    settings = ["dataset=folder", f"dataset.masks={masks}"]
    with pytest.raises(UserError, match=f"model={model}: {words}"):
        build_pipeline(JobContext(compose([*settings, f"model={model}"]), tmp_path))
    build_pipeline(JobContext(compose([*settings, "model=[]"]), tmp_path))
    own = ["model=callable", "model.callable.function._target_=tests.model.networks.brightness"]
    build_pipeline(JobContext(compose([*settings, *own]), tmp_path))


def test_a_run_ends_with_the_figures_the_folder_and_the_way_to_mlflow(start, capsys, caplog):
    caplog.set_level("INFO")
    start("outputs/day/time")
    folder = Path("outputs/day/time")
    files = {
        "confusion_brightest.csv",
        "results.json",
        "report.html",
        "predictions.parquet",
        "failures.jsonl",
    }
    assert {p.name for p in folder.iterdir()} - {"report"} == files | {
        "generated",
        "placebo",
        "originals",
        "controls",
    }
    shown = capsys.readouterr().out
    drop = json.loads((folder / "results.json").read_text())["models"]["brightest"]["drop"]
    assert (
        f" {points(drop)} " in shown
        and "drop, points" in shown
        and "18 images" in shown
        and "18 generated" in shown
    )
    assert "outputs/day/time (open report.html)" in caplog.text
    assert "mlflow ui --backend-store-uri sqlite:///" in caplog.text
    (tracked,) = tracked_runs()
    assert tracked.data.params["generator"] == "mini" and tracked.data.params["seed"] == "0"


def test_a_refused_run_writes_nothing_and_takes_no_link(start, monkeypatch):
    start("outputs/day/first")
    latest = Path("outputs/latest").resolve()

    def refuse(cfg):
        raise NoWeights("no weights", "none")

    monkeypatch.setattr("dillema.job.run.check_weights", refuse)
    Path("outputs/latest/results.json").unlink()
    with pytest.raises(NoWeights):
        start("outputs/day/second", "seed=1")
    assert list(Path("outputs/day/second").iterdir()) == []
    assert Path("outputs/latest").resolve() == latest
    before = {path: path.stat().st_mtime_ns for path in latest.rglob("*")}
    with pytest.raises(NoWeights):
        start("outputs/day/first", "seed=1")
    assert {path: path.stat().st_mtime_ns for path in latest.rglob("*")} == before


def test_a_link_leads_to_the_run_that_goes_on_and_to_its_first_images(start, monkeypatch, caplog):
    caplog.set_level("INFO")
    seen = []
    write = RunWriter.add

    def note(writer, images):
        seen.append((Path("outputs/running").resolve(), Path("outputs/running/preview.html").exists()))
        write(writer, images)

    monkeypatch.setattr(RunWriter, "add", note)
    for name in ("first", "second"):
        start(f"outputs/day/{name}", f"seed={len(name)}")
        assert set(seen) == {(Path(f"outputs/day/{name}").resolve(), True)}
        assert not Path("outputs/running").is_symlink()
        assert Path("outputs/latest").resolve() == Path(f"outputs/day/{name}").resolve()
        seen.clear()
    assert caplog.text.count(f"First images: {Path('outputs/running/preview.html').absolute()} ") == 2


def test_the_link_to_another_run_that_goes_on_stays(tmp_path):
    first, second = (tmp_path / "outputs" / "day" / name for name in ("first", "second"))
    running = tmp_path / "outputs" / "running"
    for folder in (first, second):
        folder.mkdir(parents=True)
    with point_running(first), point_running(second):
        assert running.resolve() == second
    assert not running.is_symlink()
    with point_running(first):
        links._point(running, second)
    assert running.resolve() == second


def test_the_runs_of_a_sweep_share_work_and_a_parent(start):
    start("multirun/day/time/0", sweep=Path("multirun/day/time").absolute())
    Backend.loads.clear()
    start("multirun/day/time/1", sweep=Path("multirun/day/time").absolute(), generator={"strength": 2})
    assert Backend.loads == ["Generator", "Gate", "Model"]
    tracked = tracked_runs()
    assert len(tracked) == 3
    assert (
        len({r.data.tags.get("mlflow.parentRunId") for r in tracked}) == 2
    )  # none, for the parent, and the parent
    assert sorted(r.data.params.get("generator.strength", "") for r in tracked) == ["", "", "2"]


def test_a_run_that_stops_is_marked_and_leaves_its_failures(start):
    with pytest.raises(UserError, match="max_failures"):
        start("outputs/day/time", "max_failures=3", generator={"fails": "street"})
    assert tracked_runs()[0].info.status == "FAILED"
    assert len(Path("outputs/day/time/failures.jsonl").read_text().splitlines()) > 3
