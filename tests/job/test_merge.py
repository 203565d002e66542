"""Shards of a run, each with a store of its own, and the run that they are joined to."""

import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf, open_dict

from dillema.config import compose
from dillema.config_check import check
from dillema.context import JobContext, group_options
from dillema.errors import UserError
from dillema.job.merge import merge
from dillema.job.run import run
from dillema.run_folder import RunFolder
from tests.backends import Backend
from tests.job.test_run import SMALL
from tests.test_pipeline import left_behind


@dataclass
class Brightness(Backend):
    """Compares sets by the mean brightness of their images, in the order in which they are given."""

    figures: tuple[str, ...] = ()
    features: str = "brightness"

    def distance(self, originals, images):
        means = [[float(np.asarray(read()).mean()) for read in part] for part in (originals, images)]
        fid = float(np.dot(means[1], range(len(means[1]))))
        return {"fid": fid, "kid": 0.0, "originals": len(means[0]), "images": len(means[1]), "features": "b"}


SETTINGS = {
    "dataset": {"count": 7, "damaged": 2},
    "captioner": {"fails": "scene-4"},
    "validity": {"least": 0.497},  # about half of the images count
}


class Project:
    """A folder with runs of small back-ends, their stores and MLflow's database."""

    def __init__(self, folder, mlflow_tables):
        self.folder = folder
        shutil.copy(mlflow_tables, folder / "mlflow.db")
        tracking = f"tracking.uri=sqlite:///{folder}/mlflow.db", f"tracking.artifacts={folder}/artifacts"
        self.tracking = tracking

    def start(self, name, *overrides, **fields):
        """Runs the job as Hydra would; returns the run folder."""
        folder = self.folder / "day" / name
        (folder / ".hydra").mkdir(parents=True)
        overrides = (f"store={self.folder / name}-store", *self.tracking, *overrides)
        cfg = compose(overrides)
        choices = cfg.hydra.runtime.choices
        fields = SETTINGS | fields
        with open_dict(cfg):
            for group, part in SMALL.items():
                block = {"_target_": f"tests.backends.{part}", **fields.get(group, {})}
                cfg[group] = {"small": block} if group in ("model", "validity") else block
            if fields.get("model") is None:
                cfg.model = {}
            cfg.quality = {"_target_": "tests.job.test_merge.Brightness"}
            del cfg["hydra"]
        OmegaConf.save(cfg, folder / ".hydra/config.yaml")
        OmegaConf.save({"hydra": {"runtime": {"choices": choices}}}, folder / ".hydra/hydra.yaml")
        OmegaConf.save(list(overrides), folder / ".hydra/overrides.yaml")
        return run(JobContext(cfg, folder, overrides, group_options(choices)))

    def start_shards(self, count, **fields):
        """Runs all shards, the last one first, each with a store of its own."""
        for number in reversed(range(count)):
            self.start(f"part{number}", f"shard={number}/{count}", **fields)

    def join(self, *runs, stores=None, overrides=()):
        folder = self.folder / "day" / "joined"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        overrides = (f"store={self.folder}/joined-store", *self.tracking, *overrides)
        runs = [str(self.folder / "day" / run) for run in runs]
        return merge(JobContext(compose(overrides), folder, overrides), runs, stores)


@pytest.fixture
def project(tmp_path, mlflow_tables):
    return Project(tmp_path, mlflow_tables)


@pytest.fixture(scope="module")
def shards(tmp_path_factory, mlflow_tables):
    """Returns a project with three shards, and with others that do not fit them."""
    project = Project(tmp_path_factory.mktemp("shards"), mlflow_tables)
    project.start_shards(3)
    project.start("again", "shard=1/3")
    project.start("strong", "shard=2/3", generator={"strength": 2})
    project.start("strict", "shard=2/3", validity={"least": 0.9})
    project.start("larger", "shard=2/3", dataset={"count": 8})
    project.start("half", "shard=0/2")
    (project.folder / "day/stopped").mkdir()
    return project


def list_files(folder):
    """Returns the content of the files and the results, except what differs between any two runs."""
    files, results = left_behind(folder)
    for name in list(files):
        if name.startswith((".hydra", "unsent", "report.html")):
            del files[name]
    return files, results | {"name": ""}


# nine shards of seven sources: two are empty, two fail as a whole
@pytest.mark.parametrize("count", [3, pytest.param(9, marks=pytest.mark.slow)])
def test_joined_shards_are_the_run_of_one_machine(project, count):
    whole = project.start("whole", model={})
    project.start_shards(count, model={})
    joined = project.join(*(f"part{number}" for number in range(count)))
    assert len(joined.failures()) == 2 and joined.results["distance"]["fid"]
    (files, results), (expected_files, expected_results) = list_files(joined), list_files(whole)
    assert results == expected_results and list(joined.results) == list(whole.results)
    assert sorted(files) == sorted(expected_files)
    assert [name for name in files if files[name] != expected_files[name]] == []
    assert joined.settings.config["shard"] is None and not any(
        override.startswith("shard") for override in joined.settings.overrides
    )
    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("dillema")
    names = [run.info.run_name for run in client.search_runs([experiment.experiment_id])]
    assert sorted(names) == ["day joined", "day whole"]  # shards are no runs of their own


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["part0"], "2 of 3 shards are missing: 1/3, 2/3"),
        (["part0", "part1", "part2", "again"], "(part1|again) and .*(part1|again) are both shard 1/3"),
        (
            ["part0", "part1", "strong"],
            r"(?s)part0 .* and .*strong .*different runs.*generator\.strength: 1 and 2",
        ),
        (["part0", "part1", "strict"], r"validity\.small\.least: 0\.497 and 0\.9"),
        (["part0", "part1", "larger"], "was taken from 7 sources, shard 2/3 in .*larger from 8"),
        (["part0", "part1", "half"], "half is shard 0/2 and .*part0 is shard 0/3"),
        (["part0", "part1", "stopped"], "stopped holds no finished shard.*the same command goes on"),
        (["nowhere"], "no folder .*nowhere"),
    ],
)
def test_shards_that_do_not_make_one_run_are_refused(shards, runs, message):
    with pytest.raises(UserError, match=message):
        shards.join(*runs)
    assert not (shards.folder / "day/joined/results.json").exists()


def test_the_joined_store_has_all_work_of_the_shards(shards):
    shards.join("part0", "part1", "part2")
    Backend.loads.clear()
    shards.start("whole", f"store={shards.folder}/joined-store")
    assert Backend.loads == []


def test_more_failures_than_allowed_stop_the_join_as_they_stop_a_run(shards):
    with pytest.raises(UserError, match="join them with max_failures=2"):
        shards.join("part0", "part1", "part2", overrides=("max_failures=1",))


def test_a_store_that_is_not_here_is_named_and_can_be_left_out(shards):
    moved = shards.folder / "part1-store"
    moved.rename(shards.folder / "elsewhere")
    try:
        with pytest.raises(UserError, match=r"part1-store is not here.*job\.stores=\[\]"):
            shards.join("part0", "part1", "part2")
        joined = shards.join("part0", "part1", "part2", stores=[str(shards.folder / "elsewhere")])
    finally:
        (shards.folder / "elsewhere").rename(moved)
    assert joined.results["counts"]["sources"] == 7


def test_a_step_that_failed_in_all_shards_stops_the_join(project):
    project.start_shards(2, captioner={"fails": "scene"})
    with pytest.raises(UserError, match=r"all 6 items of the step caption failed.*no scene here"):
        project.join("part0", "part1")


def test_a_shard_is_no_finished_run(shards):
    with pytest.raises(UserError, match="holds one shard of a run; job=merge"):
        RunFolder.open(shards.folder / "day/part0")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "shard=8/8",
            "shard: must be text such as 0/8, the first of eight shards, to 7/8, the last or null, not '8/8'",
        ),
        ("shard=3", "shard: must be text such as 0/8"),
    ],
)
def test_a_shard_that_does_not_exist_is_named(override, message):
    with pytest.raises(UserError, match=message):
        check(compose([override]))


def test_retraining_takes_no_shard():
    with pytest.raises(UserError, match="shard: job=retrain needs all sources"):
        check(compose(["job=retrain", "shard=0/2"]))
