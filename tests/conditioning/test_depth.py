import numpy as np
import pytest
import torch
from PIL import Image

from dillema.conditioning.depth import Depth
from dillema.errors import UserError
from tests import tiny


def test_depth_spans_black_to_white_at_the_size_asked_for_and_depends_on_the_image(tmp_path):
    conditioning = Depth(tiny.depth(tmp_path / "depth"), weight=0.4)
    conditioning.load()
    first, second = (conditioning.control(tiny.sample(seed=seed), tiny.dataset(), (40, 24)) for seed in (0, 1))
    pixels = np.asarray(first.image)
    assert first.weight == 0.4
    assert pixels.shape == (24, 40, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert (pixels != np.asarray(second.image)).any()


def test_what_the_network_gives_a_larger_value_is_brighter(tmp_path):
    conditioning = Depth(tiny.depth(tmp_path / "depth"))
    conditioning.load()
    nearness = torch.linspace(2, 8, 50).repeat(30, 1)
    conditioning._network.forward = lambda pixels: type("Output", (), {"predicted_depth": nearness[None]})
    pixels = np.asarray(conditioning.control(tiny.sample(), tiny.dataset(), (50, 30)).image)[..., 0]
    assert (np.diff(pixels.astype(int), axis=1) >= 0).all()
    assert (pixels[:, 0].max(), pixels[:, -1].min()) == (0, 255)


def test_a_folder_without_a_depth_network_is_named(tmp_path):
    with pytest.raises(UserError, match="AutoImageProcessor"):
        Depth(str(tmp_path)).load()
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    network = tiny.segmenter(tmp_path / "segmenter")
    with pytest.raises(UserError, match="segmenter is not a model that AutoModelForDepthEstimation can open"):
        Depth(network).load()
