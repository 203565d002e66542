"""Launchers and sweepers of Hydra, as .github/SCALING.md names them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dillema.errors import UserError
from dillema.run_folder import RunFolder

ROOT = Path(__file__).parents[1]

JOB = """
from dillema.run_folder import RunFolder

def job(context):
    folder = RunFolder(context.folder)
    folder.write_results({"models": {"small": {"drop": -float((context.cfg.seed - 5) ** 2)}}})
    return folder
"""


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "small_job.py").write_text(JOB)

    def sweep(*arguments):
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
        command = [sys.executable, "-m", "dillema", "-m", "job._target_=small_job.job", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return tmp_path / "multirun"

    return sweep


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_launcher_runs_every_configuration_of_a_sweep(sweep, launcher):
    folder = sweep("seed=0,1,2", f"hydra/launcher={launcher}")
    runs = [RunFolder.open(path.parent) for path in folder.glob("*/*/*/results.json")]
    assert sorted(run.settings.config["seed"] for run in runs) == [0, 1, 2]


@pytest.mark.slow
def test_optuna_finds_the_setting_with_the_largest_figure(sweep):
    folder = sweep("hydra/sweeper=optuna", "objective=models.small.drop", "seed=range(0,9)",
                   "hydra.sweeper.n_trials=12", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_jobs=1",
                   "hydra.sweeper.sampler.seed=1")  # fmt: skip
    (results,) = folder.glob("*/*/optimization_results.yaml")
    found = OmegaConf.load(results)
    assert found.best_value == 0.0 and dict(found.best_params) == {"++seed": 5}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models.large.drop", "has no 'large' there; it has small"),
        ("models.small", "has no number there"),
        ("models.small.drop.low", "has no 'low' there; it has a value"),
    ],
)
def test_an_objective_that_no_run_has_is_answered_with_what_there_is(tmp_path, name, message):
    folder = RunFolder(tmp_path)
    folder.write_results({"models": {"small": {"drop": 0.25}}})
    assert folder.figure("models.small.drop") == 0.25
    with pytest.raises(UserError, match=message):
        folder.figure(name)
