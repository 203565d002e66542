"""Files of weights as training scripts leave them."""

import argparse

import numpy as np
import pytest
import torch
import torchvision

from dillema.errors import UserError
from dillema.model.torchvision import TorchvisionClassification
from dillema.model.weights import read_weights
from tests import tiny

NAME = "squeezenet1_1"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torchvision.models.get_model(NAME, num_classes=2).eval()


def logits_of(path):
    model = TorchvisionClassification("m", NAME, checkpoint=str(path), classes=2)
    model.load()
    return model.predict([tiny.image(0, (300, 260))])


def forms(state):
    """Returns what training scripts save."""
    optimizer = {"state": {0: {"momentum_buffer": None}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    arguments = argparse.Namespace(lr=0.1, model=NAME)

    def under(prefix):
        return {f"{prefix}{name}": value for name, value in state.items()}

    return {
        "plain.pth": state,
        "parallel.pth": under("module."),
        "compiled.pth": under("_orig_mod."),
        "both.pth": under("_orig_mod.module."),
        "example.pth.tar": {
            "epoch": 3,
            "arch": NAME,
            "state_dict": under("module."),
            "best": torch.tensor(71.0),
        },
        "reference.pth": {"model": state, "optimizer": optimizer, "epoch": 3, "args": arguments},
        "model.pth": {"model": state, "epoch": 3},
        "named.pt": {"model_state_dict": state, "epoch": 3},
        "average.pth": {"state_dict_ema": under("module."), "epoch": 3},
        "timm.pth.tar": {"state_dict": state, "args": arguments, "version": 2, "metric": 71.0},
        "metric.pth": {"state_dict": state, "best": np.float64(0.71), "curve": np.zeros(3)},
        "epoch=3-step=20.ckpt": {"state_dict": under("model."), "hyper_parameters": {"lr": 0.1}},
        "lightning.ckpt": {"state_dict": under("model.net."), "hyper_parameters": arguments},
        "no_suffix": state,
    }


@pytest.mark.parametrize("name", list(forms({})))
def test_weights_are_found_in_what_training_scripts_leave(network, tmp_path, name):
    torch.save(forms(network.state_dict())[name], tmp_path / name)
    plain = tmp_path / "expected.pth"
    torch.save(network.state_dict(), plain)
    torch.testing.assert_close(logits_of(tmp_path / name), logits_of(plain))


def test_of_two_sets_of_weights_it_is_said_which_one_is_used(network, tmp_path, caplog):
    state = network.state_dict()
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "two.pth")
    assert read_weights(str(tmp_path / "two.pth"), "model.m.checkpoint").keys() == state.keys()
    assert "of the weights state_dict, state_dict_ema, those of state_dict are used" in caplog.text


def test_what_is_not_opened_says_what_the_file_has(network, tmp_path):
    torch.save(network, tmp_path / "whole.pth")
    with pytest.raises(
        UserError, match=r"holds pickled code \(.*torch.*\), which is not run\. Save its weights alone"
    ):
        logits_of(tmp_path / "whole.pth")
    torch.save({"epoch": 3, "weights": network.state_dict()}, tmp_path / "other.pth")
    with pytest.raises(
        UserError, match=r"other\.pth holds no weights that can be found: it has epoch, weights\."
    ):
        logits_of(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="it holds a list"):
        logits_of(tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match=r"text\.pth is no file of weights"):
        logits_of(tmp_path / "text.pth")


def test_weights_that_do_not_fit_are_named_in_few_words(network, tmp_path):
    state = network.state_dict()
    torch.save(
        {name.replace("features", "layers"): value for name, value in state.items()}, tmp_path / "a.pth"
    )
    with pytest.raises(UserError) as error:
        logits_of(tmp_path / "a.pth")
    assert "50 weights are missing (features.0.bias, features.0.weight, " in str(error.value)
    assert "50 weights are not in the network (layers.0.bias" in str(error.value)
    assert len(str(error.value)) < 500
    with pytest.raises(UserError, match=r"checkpoint=/no/such/weights: there is no such file"):
        logits_of("/no/such/weights")


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"state_dict": {"a": torch.zeros(1)}, "trap": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match=r"holds pickled code \(.*open"):
        read_weights(str(tmp_path / "trap.pth"), "model.m.checkpoint")
    assert not (tmp_path / "sprung").exists()


def test_a_flipped_bit_of_a_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.arange(64.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(64.0).numpy().tobytes()) + 30] ^= 8
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pth is no file of weights: it is damaged: .* checksum"):
        read_weights(str(path), "model.m.checkpoint")
