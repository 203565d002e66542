"""Writes the small world in the layout of a real data set: `python -m dillema.mini.export shift FOLDER`."""

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..dataset.shift import DUSK
from .render import PEDESTRIAN, VEHICLE, render
from .scene import (
    CAMERA_HEIGHT,
    FOCAL,
    HEIGHT,
    SIZES,
    WIDTH,
    Appearance,
    Scene,
    drawn_appearance,
    sample_scene,
    scene_seed,
)

CATEGORIES = ("pedestrian", "car", "truck", "bus", "motorcycle", "bicycle")  # of SHIFT, where a van is a car
PEDESTRIAN_WIDTH = 0.5  # metres
MIN_BOX_PIXELS = 5  # boxes in which less of their object is visible are left out
IMAGE_NAME = "00000000_img_front.jpg"
MASK_NAME = "00000000_semseg_front.png"
SEQUENCE_COLUMNS = (
    "video",
    "shift_type",
    "start_weather_coarse",
    "start_timeofday_coarse",
    "end_weather_coarse",
    "end_timeofday_coarse",
)
WNIDS = {  # ImageNet's nearest class
    "car": "n04285008",  # sports car
    "van": "n03770679",  # minivan
    "truck": "n04467665",  # trailer truck
    "bus": "n04146614",  # school bus
    "motorcycle": "n03791053",  # motor scooter
    "bicycle": "n03792782",  # mountain bike
}
WEATHER_PARAMETERS = {  # cloudiness, precipitation, fog_density, wetness
    "clear": (10, 0, 0, 0),
    "cloudy": (80, 0, 0, 0),
    "rainy": (90, 80, 10, 90),
    "foggy": (60, 0, 80, 20),
    "snowy": (90, 60, 15, 30),
}
SUN_ALTITUDE = {"daytime": 60, "dusk": 2, "night": -30}  # degrees


@dataclass(frozen=True)
class _Object:
    """A vehicle or a pedestrian.

    Attributes:
        category: One of CATEGORIES.
        blueprint: Name of the model, in the form of the CARLA simulator.
        class_id: Its class in masks.
        size: Length, width and height in metres.
        centre: Right of and ahead of the camera, in metres.
        yaw: Radians.
    """

    category: str
    blueprint: str
    class_id: int
    size: tuple[float, float, float]
    centre: tuple[float, float]
    yaw: float


def export_shift(folder: Path, split: str, count: int) -> Path:
    """Writes the first `count` street scenes of a split, each as a sequence of one frame.

    Returns the folder of the view in SHIFT's discrete layout.
    """
    view = folder / "discrete" / "images" / split / "front"
    frames, rows = [], []
    for index in range(count):
        seed = scene_seed(split, "street", index)
        scene, appearance = sample_scene(seed), drawn_appearance(seed)
        image, mask = render(scene, appearance)
        sequence = f"{index >> 16:04x}-{index & 0xFFFF:04x}"
        for group in ("img", "semseg"):
            (view / group / sequence).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(view / "img" / sequence / IMAGE_NAME, quality=95)
        Image.fromarray(mask).save(view / "semseg" / sequence / MASK_NAME)
        frames.append(_frame(sequence, scene, appearance, mask))
        conditions = (appearance.weather, _shift_time(appearance))
        rows.append((sequence, "discrete", *conditions, *conditions))
    categories = [{"name": category} for category in CATEGORIES]
    config = {"imageSize": {"width": WIDTH, "height": HEIGHT}, "categories": categories}
    (view / "det_2d.json").write_text(json.dumps({"frames": frames, "config": config}))
    with (view / "seq.csv").open("w", newline="") as file:
        csv.writer(file).writerows([SEQUENCE_COLUMNS, *rows])
    return view


def export_imagenet(folder: Path, split: str, count: int) -> Path:
    """Writes the first `count` scenes with one dominant vehicle, each in the folder of its class.

    Returns the folder of the split.
    """
    for index in range(count):
        seed = scene_seed(split, "vehicle", index)
        scene = sample_scene(seed, "vehicle")
        class_folder = folder / split / WNIDS[scene.kind]
        class_folder.mkdir(parents=True, exist_ok=True)
        image, _ = render(scene, drawn_appearance(seed))
        Image.fromarray(image).save(class_folder / f"{class_folder.name}_{index}.JPEG", quality=95)
    return folder / split


def _frame(sequence: str, scene: Scene, appearance: Appearance, mask: np.ndarray) -> dict[str, Any]:
    """Returns the description of a frame in Scalabel's format; as in SHIFT, every attribute is a string."""
    time = _shift_time(appearance)
    names = ("cloudiness", "precipitation", "fog_density", "wetness")
    parameters = zip(names, WEATHER_PARAMETERS[appearance.weather], strict=True)
    return {
        "name": IMAGE_NAME,
        "videoName": sequence,
        "frameIndex": 0,
        "intrinsics": {"focal": [FOCAL, FOCAL], "center": [scene.centre, scene.horizon], "skew": 0},
        "extrinsics": {"location": [0, 0, CAMERA_HEIGHT], "rotation": [0, 0, 0]},
        "attributes": {
            "weather_coarse": appearance.weather,
            "timeofday_coarse": time,
            "weather_fine": appearance.weather,
            "timeofday_fine": time,
            "view": "front",
            "town": "mini",
            "sun_altitude_angle": f"{SUN_ALTITUDE[appearance.time_of_day]}",
            **{name: f"{value:.1f}" for name, value in parameters},
        },
        "labels": list(_labels(scene, appearance, mask)),
    }


def _shift_time(appearance: Appearance) -> str:
    return DUSK if appearance.time_of_day == "dusk" else appearance.time_of_day


def _labels(scene: Scene, appearance: Appearance, mask: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yields category, type and box of every vehicle and pedestrian of which enough can be seen."""
    box_number = 0
    for item in _objects(scene, appearance):
        box = _box(scene, item)
        x1, y1, x2, y2 = map(round, box)
        visible_pixels = int((mask[y1 : y2 + 1, x1 : x2 + 1] == item.class_id).sum())
        if visible_pixels >= MIN_BOX_PIXELS:
            yield {
                "id": str(box_number),
                "category": item.category,
                "attributes": {"type": item.blueprint},
                "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
            }
            box_number += 1


def _objects(scene: Scene, appearance: Appearance) -> Iterator[_Object]:
    for thing in scene.things:
        if thing.kind == "pedestrian":
            size = (PEDESTRIAN_WIDTH, PEDESTRIAN_WIDTH, thing.height)
            centre = (thing.x, thing.z + PEDESTRIAN_WIDTH / 2)
            yield _Object("pedestrian", "walker.mini.pedestrian", PEDESTRIAN, size, centre, 0.0)
    for vehicle in scene.vehicles:
        category = "car" if vehicle.kind == "van" else vehicle.kind
        blueprint = f"vehicle.mini.{vehicle.kind}_{vehicle.colour or appearance.colour}"
        centre = (vehicle.x, vehicle.centre_z)
        yield _Object(category, blueprint, VEHICLE, SIZES[vehicle.kind], centre, vehicle.yaw)


def _box(scene: Scene, item: _Object) -> list[float]:
    """Returns x1, y1, x2 and y2 in pixels of the box around an object, cut off at the edges of the image."""
    length, width, height = item.size
    corners = np.meshgrid((-length / 2, length / 2), (-width / 2, width / 2), (0, height))
    along, across, up = (grid.ravel() for grid in corners)
    cos, sin = np.cos(item.yaw), np.sin(item.yaw)
    x, middle_z = item.centre
    z = np.maximum(middle_z + along * cos - across * sin, 1.0)
    columns = np.clip(scene.centre + FOCAL * (x + along * sin + across * cos) / z, 0, WIDTH - 1)
    rows = np.clip(scene.horizon + FOCAL * (CAMERA_HEIGHT - up) / z, 0, HEIGHT - 1)
    return [float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())]


def main() -> None:
    """Writes the layout that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m dillema.mini.export",
        description="Writes scenes of the small world in the layout of a real data set.",
    )
    parser.add_argument("layout", choices=("shift", "imagenet"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--count", type=int, default=24)
    args = parser.parse_args()
    export = {"shift": export_shift, "imagenet": export_imagenet}[args.layout]
    option = {"shift": "experiment=exported", "imagenet": "dataset=imagenet"}[args.layout]
    folder = export(args.folder, args.split, args.count)
    print(f"{args.count} scenes in {folder}; read them with {option} dataset.root={args.folder}")


if __name__ == "__main__":
    main()
