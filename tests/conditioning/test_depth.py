import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

from dillema.conditioning.depth import DatasetDepth, Depth
from dillema.errors import ItemError, UserError
from tests import tiny
from tests.backends import Noise, run_pipeline


def test_depth_spans_black_to_white_at_the_size_asked_for_and_depends_on_the_image(tmp_path):
    conditioning = Depth(tiny.depth(tmp_path / "depth"), weight=0.4)
    conditioning.load()
    first, second = (
        conditioning.control(tiny.sample(seed=seed), tiny.dataset(), (40, 24)) for seed in (0, 1)
    )
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


def far(metres):
    return tiny.sample(read_depth=lambda: np.asarray(metres, np.float32))


def test_depth_of_the_data_set_is_as_bright_as_a_network_would_paint_it():
    metres = np.tile(np.float32([2, 4, 1000]), (30, 1)).repeat(20, 1)
    control = DatasetDepth(weight=0.6).control(far(metres), tiny.dataset(), (60, 30))
    pixels = np.asarray(control.image)
    assert control.weight == 0.6 and pixels.shape == (30, 60, 3)
    near, middle, sky = pixels[15, 5, 0], pixels[15, 30, 0], pixels[15, 55, 0]
    assert (near, sky) == (255, 0) and abs(int(middle) - 127) <= 1  # twice as far is half as bright
    metres[0, 0] = 0  # a wrong pixel
    assert np.asarray(DatasetDepth().control(far(metres), tiny.dataset(), (60, 30)).image)[15, 5, 0] > 120


def test_depth_that_is_not_there_is_said():
    with pytest.raises(UserError, match=r"no depth for s\. .*group depth.*conditioning=depth"):
        DatasetDepth().control(tiny.sample(), tiny.dataset(), (60, 30))
    with pytest.raises(ItemError, match="the depth of s cannot be read"):
        DatasetDepth().control(tiny.sample(read_depth=lambda: json.loads("no map")), tiny.dataset(), (60, 30))


def test_another_depth_makes_another_image(tmp_path):
    @dataclass
    class Deep(Noise):
        slope: int = 1

        def samples(self):
            plane = np.linspace(2, 50, 32 * 20, dtype=np.float32).reshape(20, 32) ** self.slope
            return [replace(sample, read_depth=lambda: plane) for sample in super().samples()]

    images = {}
    for name, slope in (("first", 1), ("again", 1), ("other", 2)):
        parts = {"dataset": Deep(slope=slope), "conditionings": {"depth": DatasetDepth()}}
        folder, _ = run_pipeline(tmp_path / name, tmp_path / "store", **parts)
        images[name] = [
            path.read_bytes() for path in sorted((folder.path / "generated" / "images").iterdir())
        ]
    assert len(images["first"]) == 12
    assert images["first"] == images["again"]
    assert not set(images["first"]) & set(images["other"])
