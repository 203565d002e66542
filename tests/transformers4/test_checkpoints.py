"""Checkpoints as transformers 4 saved them, with its configurations and names of weights, are opened whole.

`checkpoints.json` comes from transformers 4.57 (see make.py): configurations, names and shapes of weights,
and numbers that transformers 4 computed with the weights of `weights.fill`.
"""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from dillema import hub
from dillema.errors import UserError

from .networks import CASES, run
from .weights import fill, summarise

CHECKPOINTS = json.loads(Path(__file__).with_name("checkpoints.json").read_text())


def write(folder, name, leave_out=()):
    checkpoint = CHECKPOINTS[name]
    (folder / "config.json").write_text(json.dumps(checkpoint["config"]))
    names = [key for key in checkpoint["shapes"] if key not in leave_out]
    tensors = {key: fill(key, checkpoint["shapes"][key]) for key in names}
    # transformers 5 computes these itself
    tensors |= {key: tensors[key].zero_().long() for key in checkpoint["indices"]}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def open_network(folder, name):
    kind = getattr(transformers, CASES[name])
    return hub.network(kind, folder, "another option", "cpu", "float32")


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_transformers_4_computed(tmp_path, name):
    network = open_network(write(tmp_path, name), name)
    with torch.inference_mode():
        numbers = summarise(run(name, network))
    assert numbers == pytest.approx(CHECKPOINTS[name]["output"], abs=2e-3)


@pytest.mark.parametrize("name", CASES)
def test_a_missing_weight_is_still_found(tmp_path, name):
    weights = [key for key in CHECKPOINTS[name]["shapes"] if key.endswith("weight") and "layers" in key]
    weights = weights or [key for key in CHECKPOINTS[name]["shapes"] if key.endswith("weight")]
    with pytest.raises(UserError, match="was not trained for this task: it lacks weights"):
        open_network(write(tmp_path, name, {weights[len(weights) // 2]}), name)
