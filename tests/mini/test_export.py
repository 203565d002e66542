import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from dillema.dataset import check_sample
from dillema.dataset.imagenet import ImageNet
from dillema.dataset.mini import MiniShift
from dillema.dataset.shift import Shift
from dillema.mini.export import export_imagenet, export_shift
from dillema.mini.render import VEHICLE, render
from dillema.mini.scene import drawn_appearance, sample_scene, scene_seed

COUNT = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("shift")
    export_shift(root, "val", COUNT)
    return root


@pytest.fixture(scope="module")
def view(root):
    return root / "discrete/images/val/front"


def test_shift_reads_back_what_the_renderer_drew(root):
    shift = Shift(root=str(root))
    samples = shift.samples()
    assert len(samples) == COUNT
    for i, sample in enumerate(samples):
        check_sample(sample, shift)
        seed = scene_seed("val", "street", i)
        appearance = drawn_appearance(seed)
        image, mask = render(sample_scene(seed), appearance)
        np.testing.assert_array_equal(sample.mask, mask)
        assert np.abs(np.asarray(sample.image).astype(int) - image).mean() < 4  # JPEG
        assert dict(sample.attributes) == {
            "weather": appearance.weather,
            "time of day": appearance.time_of_day,
        }
    mini = MiniShift()
    assert (shift.classes, shift.colours, shift.ignored) == (mini.classes, mini.colours, mini.ignored)


def test_frames_are_described_as_shift_describes_them(view):
    content = json.loads((view / "det_2d.json").read_text())
    categories = [category["name"] for category in content["config"]["categories"]]
    assert categories == ["pedestrian", "car", "truck", "bus", "motorcycle", "bicycle"]
    for frame in content["frames"]:
        assert (view / "img" / frame["videoName"] / frame["name"]).is_file()
        assert all(isinstance(value, str) for value in frame["attributes"].values())
        assert frame["attributes"]["timeofday_coarse"] in ("daytime", "dawn/dusk", "night")


def test_boxes_contain_the_vehicles(root, view):
    frames = json.loads((view / "det_2d.json").read_text())["frames"]
    for frame, sample in zip(frames, Shift(root=str(root)).samples(), strict=True):
        inside = np.zeros((160, 256), bool)
        for label in frame["labels"]:
            box = label["box2d"]
            x1, y1, x2, y2 = (round(box[k]) for k in ("x1", "y1", "x2", "y2"))
            assert 0 <= x1 < x2 < 256
            assert 0 <= y1 < y2 < 160
            if label["category"] != "pedestrian":
                inside[y1 - 1 : y2 + 2, max(x1 - 1, 0) : x2 + 2] = True
        assert inside[sample.mask == VEHICLE].mean() > 0.97


def test_seq_csv_has_a_row_for_each_sequence(view):
    with (view / "seq.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(r["video"] for r in rows) == sorted(p.name for p in (view / "img").iterdir())
    assert {r["start_timeofday_coarse"] for r in rows} <= {"daytime", "dawn/dusk", "night"}


def test_imagenet_reads_back_the_kinds_of_the_vehicles(tmp_path):
    export_imagenet(tmp_path, "val", COUNT)
    data = ImageNet(root=str(tmp_path))
    names = {
        "car": "sports car",
        "van": "minivan",
        "truck": "trailer truck",
        "bus": "school bus",
        "motorcycle": "motor scooter",
        "bicycle": "mountain bike",
    }
    scenes = [sample_scene(scene_seed("val", "vehicle", i), "vehicle") for i in range(COUNT)]
    labels = [data.classes[sample.label] for sample in data.samples()]
    assert sorted(labels) == sorted(names[scene.kind] for scene in scenes)


def test_the_command_line_says_how_to_read_what_it_wrote(tmp_path):
    command = [
        sys.executable,
        "-m",
        "dillema.mini.export",
        "shift",
        str(tmp_path),
        "--split",
        "test",
        "--count",
        "2",
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"experiment=exported dataset.root={tmp_path}" in output
    assert len(Shift(root=str(tmp_path), split="test").samples()) == 2
