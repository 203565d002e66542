"""Retraining in the small world, as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dillema.model.transformers import TransformersClassification, TransformersSegmentation
from tests import tiny

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "model"), [("mini_shift", "mini_segformer"), ("mini_imagenet", "mini_resnet")]
)
def test_the_small_world_goes_on_after_kill_9_and_shows_the_truth(tmp_path, dataset, model):
    command = [
        sys.executable,
        "-m",
        "dillema",
        "job=retrain",
        f"dataset={dataset}",
        "dataset.limit=6",
        "generator.steps=2",
        "job.steps=3",
        "job.seeds=[0,1]",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(tmp_path.glob("outputs/store/retrained/*/training.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    expected = {
        path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/store/retrained/*/training.json")
    }
    assert 1 <= len(expected) < 6
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert all(path.stat().st_mtime_ns == when for path, when in expected.items())
    (path,) = tmp_path.glob("outputs/*/*/report.html")
    figures = json.loads((path.parent / "results.json").read_text())["models"][model]["retraining"]
    assert len(figures["arms"]["counterfactuals"]["per_condition"]) == 15
    assert figures["images"]["truth"] == 14 * figures["sources"]["test"]
    assert "Retraining" in path.read_text()
    kind = TransformersSegmentation if dataset == "mini_shift" else TransformersClassification
    again = kind(
        "again", figures["arms"]["counterfactuals"]["weights"][0].removeprefix(f"model.{model}.model=")
    )
    again.load()
    assert np.isfinite(again.predict([tiny.image(0, (256, 160))])[0]).all()
