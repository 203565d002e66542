"""Writes the run folders in tests/golden/ again: python -m tests.golden.make.

They pin the formats of a run folder. Raise the version of a format that changes (RESULTS_VERSION,
PREDICTIONS_VERSION), see that the files of the version before are read or refused in words, then write them.
`version_1` was written by hand after the files of DILLEMA 0.1.
"""

import shutil
import tempfile
from pathlib import Path

from dillema.run_folder import RunFolder
from tests.backends import Gate, Model, Noise, run_pipeline

FOLDER = Path(__file__).parent
TASKS = ("segmentation", "classification")


def make_run(task: str, folder: Path) -> RunFolder:
    """Runs small back-ends: two sources are painted, one cannot be read, some images are rejected."""
    run, _ = run_pipeline(
        folder / task,
        folder / "store",
        dataset=Noise(3, task, damaged=1, group_size=2),
        models=[Model(task=task)],
        gates=[Gate(least=0.497)],
        placebos=1,
    )
    return run


def main() -> None:
    """Replaces the folders of both tasks."""
    for task in TASKS:
        with tempfile.TemporaryDirectory() as folder:
            shutil.rmtree(FOLDER / task, ignore_errors=True)
            shutil.copytree(make_run(task, Path(folder)).path, FOLDER / task)


if __name__ == "__main__":
    main()
