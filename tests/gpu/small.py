"""Back-ends on small random checkpoints, on the device that these tests are about."""

import os
from dataclasses import fields, replace

import torch

from dillema.config import build
from tests.contracts import small
from tests.test_config import composed

DEVICE = os.environ.get("DILLEMA_TEST_DEVICE", "cuda")
DTYPES = ("float32", "float16", "bfloat16")


def load_option(group, option, folder, device=DEVICE, dtype="float32"):
    """Returns an option of the configuration with small weights, loaded; the dtype where it has one."""
    folder.mkdir(parents=True, exist_ok=True)
    block = composed(f"{group}={option}", *getattr(small, group)(option, folder))[group]
    backend = build(next(iter(block.values())) if group in ("validity", "model") else block)
    names = {field.name for field in fields(backend)}
    settings = {"device": device, "dtype": dtype}
    backend = replace(backend, **{name: value for name, value in settings.items() if name in names})
    backend.load()
    return backend


def assert_close(result, expected, share):
    """Asserts that tensors differ by no more than a share of the largest value that is expected."""
    assert result.shape == expected.shape and result.isfinite().all()
    assert (result - expected).abs().max() <= share * expected.abs().max()


def assert_on_device(module):
    """Asserts that the weights of a network are where they were asked for."""
    assert {weights.device.type for weights in module.parameters()} == {torch.device(DEVICE).type}
