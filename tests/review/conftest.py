import shutil

import pytest

from dillema.run_folder import RunFolder
from tests.backends import Captioner, Gate, Noise, run_pipeline
from tests.report.page_run import HOSTILE


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Returns a run with masks, placebos and rejected images, whose captions would harm a careless page."""
    base = tmp_path_factory.mktemp("review")
    folder, _ = run_pipeline(
        base / "run",
        base / "store",
        dataset=Noise(count=20),
        counterfactuals=3,
        placebos=1,
        captioner=Captioner(sentence=HOSTILE),
        gates=[Gate(least=0.5)],
    )
    return folder


@pytest.fixture
def run_copy(finished_run, tmp_path):
    """Returns a copy of the run elsewhere: a review needs the folder and nothing else."""
    without_review = shutil.ignore_patterns("review")
    shutil.copytree(finished_run.path, tmp_path / "elsewhere" / "run", ignore=without_review)
    return RunFolder.open(tmp_path / "elsewhere" / "run")
