import math

import numpy as np
import pytest
import torch
from PIL import Image

from dillema.conditioning.soft_edge import SoftEdge
from dillema.errors import UserError
from dillema.types import Sample
from tests import tiny

SIZE = (80, 48)


def edges(path, pixels, **options):
    conditioning = SoftEdge(path, device="cpu", **options)
    conditioning.load()
    return conditioning.control(Sample("s", lambda: tiny.png(pixels)), tiny.dataset(), SIZE)


def test_edges_are_bright_where_the_image_changes_and_dark_elsewhere(tmp_path):
    def differ(tensors):
        tensors["block1.convs.0.weight"][0, 0] = torch.tensor([[0, 0, 0], [-1, 1, 0], [0, 0, 0]])
        tensors["block1.convs.1.weight"][0, 0, 1, 1] = 1
        tensors["block1.projection.weight"][0, 0] = 1
        for block in range(1, 6):
            tensors[f"block{block}.projection.bias"][:] = -5

    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[:, 40:] = 255
    control = edges(tiny.hed(tmp_path / "hed.pth", differ), pixels, weight=0.7)
    edges_found = np.asarray(control.image)
    assert control.weight == 0.7
    assert edges_found.shape == (SIZE[1], SIZE[0], 3)
    assert (edges_found[:, 40] > 250).all()
    assert (np.delete(edges_found, 40, axis=1) < 3).all()


def test_each_block_has_a_fifth_of_the_say_and_the_mean_colour_is_subtracted(tmp_path):
    def change(tensors):
        tensors["norm"][0, :, 0, 0] = torch.tensor([40.0, 50.0, 60.0])
        tensors["block1.convs.0.weight"][7, 0, 1, 1] = 1  # red
        tensors["block1.convs.1.weight"][3, 7, 1, 1] = 1
        tensors["block1.projection.weight"][0, 3] = 0.1
        for block in range(1, 6):
            tensors[f"block{block}.projection.bias"][:] = -block

    control = edges(tiny.hed(tmp_path / "hed.pth", change), np.full((20, 30, 3), (100, 0, 200), np.uint8))
    expected = 255 / (1 + math.exp(-((100 - 40) * 0.1 - 15) / 5))
    assert np.abs(np.asarray(control.image, float) - expected).max() <= 1


def test_safe_edges_have_three_levels(tmp_path):
    def grow(tensors):
        tensors["block1.convs.0.weight"][0, 0, 1, 1] = 1  # red
        tensors["block1.convs.1.weight"][0, 0, 1, 1] = 1
        tensors["block1.projection.weight"][0, 0] = 0.2

    ramp = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, SIZE[0])
    file = tiny.hed(tmp_path / "hed.pth", grow)
    plain, safe = (np.asarray(edges(file, ramp, safe=safe).image)[..., 0] for safe in (False, True))
    assert len(np.unique(plain)) > 10
    assert set(np.unique(safe)) == {127, 255}  # of 0, 127 and 255: no edge here is below a third
    assert (safe == np.where(plain < 2 / 3 * 255, 127, 255)).mean() > 0.97


def test_a_file_that_is_no_hed_is_named(tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"other\.pth does not hold the weights of ControlNetHED\.pth"):
        SoftEdge(str(other)).load()
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    with pytest.raises(UserError, match=r"picture\.png does not hold"):
        SoftEdge(str(tmp_path / "picture.png")).load()


def test_a_missing_file_sends_the_user_to_another_conditioning(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("nowhere.pth", "someone/Annotators/ControlNetHED.pth"):
        with pytest.raises(UserError, match=r"it is no file on this machine.*(.|\n)*conditioning=canny"):
            SoftEdge(name).load()
