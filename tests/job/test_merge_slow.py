"""Shards of the default run, started as commands, against the same run on one machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dillema.run_folder import RunFolder
from tests.job.test_merge import list_files

ROOT = Path(__file__).parents[2]
SMALL = ["dataset.limit=4", "counterfactuals=1"]


@pytest.mark.slow
def test_shards_of_the_default_run_are_joined_to_that_of_one_machine(tmp_path):
    def dillema(name, *arguments):
        folder = tmp_path / "outputs" / name
        command = [sys.executable, "-m", "dillema", *arguments, f"hydra.run.dir={folder}"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return folder

    whole = dillema("whole", *SMALL, "store=whole")
    for number in (1, 0):
        dillema(f"part{number}", *SMALL, f"shard={number}/2", f"store=store{number}")
    joined = dillema("joined", "job=merge", f"job.runs=[{tmp_path}/outputs]", "store=joined")
    (files, results), (expected_files, expected_results) = map(list_files, map(RunFolder, (joined, whole)))
    for left in (files, expected_files):
        for name in list(left):
            if name.startswith(("dillema.log", "report")):
                del left[name]  # times, and versions
    assert results == expected_results and files == expected_files
