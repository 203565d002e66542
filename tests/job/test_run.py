import json

import pytest
from omegaconf import OmegaConf

from dillema.job import run as job
from tests.backends import Model, Noise


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    groups = {"dataset": "Noise", "captioner": "Captioner", "prompt": "Editor", "edits": "Edits", "conditioning": "Conditioning"}
    groups |= {"generator": "Generator", "validity": "Gate", "model": "Model"}
    blocks = {group: {"_target_": f"tests.backends.{name}"} for group, name in groups.items()}
    tracking = {"uri": "sqlite:///outputs/mlflow.db", "artifacts": "outputs/artifacts", "experiment": "dillema"}
    return OmegaConf.create(
        blocks | {"execution": {"_target_": "dillema.execution.local.Local"}, "seed": 0, "counterfactuals": 2, "store": "outputs/store", "tracking": tracking}
    )
