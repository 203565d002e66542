"""`dillema.run` in programs that a user writes."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

import dillema
from dillema.config import compose
from dillema.errors import UserError

GOLDEN = Path(__file__).parent / "golden" / "segmentation"


@pytest.fixture
def finished(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN, tmp_path / "finished")
    return tmp_path / "finished"


def test_a_job_on_a_finished_run_returns_the_folder_of_that_run(finished):
    folder = dillema.run(["job=report", f"run={finished}"])
    assert folder.path == finished and folder.results["counts"]["sources"] == 3
    assert (finished / "report.html").is_file()


def test_a_job_that_makes_no_run_returns_its_folder(finished):
    folder = dillema.run(["job=compare", f"job.runs=[{finished},{finished}]"])
    assert (folder.path / "comparison.html").is_file()
    with pytest.raises(UserError, match="holds no finished run"):
        _ = folder.results


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("job=report", "takes a list of settings"),
        ([3], "takes a list of settings"),
        (["-m", "seed=0,1"], "takes no flags"),
        (["seed=0,1"], "Ambiguous value"),
        (["+seed=1"], "Could not append"),
    ],
)
def test_what_is_no_list_of_settings_is_refused_in_words(overrides, message):
    with pytest.raises(UserError, match=message):
        dillema.run(overrides)


def test_a_program_that_uses_hydra_itself_keeps_its_state(tmp_path):
    (tmp_path / "own.yaml").write_text("size: 3")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose(["seed=7"]).seed == 7
        assert hydra.compose("own").size == 3
    assert not GlobalHydra.instance().is_initialized()


def test_threads_compose_at_the_same_time():
    with ThreadPoolExecutor(4) as threads:
        composed = list(threads.map(lambda seed: compose([f"seed={seed}"]).seed, range(4)))
    assert composed == [0, 1, 2, 3]
