"""The small world on disk, in the layouts of SHIFT and of ImageNet: `python -m dillema.mini.export shift FOLDER`."""

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..dataset.shift import DUSK
from .render import PEDESTRIAN, VEHICLE, render
from .scene import CAMERA_HEIGHT, FOCAL, HEIGHT, SIZES, WIDTH, Appearance, Scene, drawn_appearance, sample_scene, seed_of

CATEGORIES = ("pedestrian", "car", "truck", "bus", "motorcycle", "bicycle")  # SHIFT's; a van is a car to it
WNIDS = {  # ImageNet's nearest class: sports car, minivan, trailer truck, school bus, motor scooter, mountain bike
    "car": "n04285008",
    "van": "n03770679",
    "truck": "n04467665",
    "bus": "n04146614",
    "motorcycle": "n03791053",
    "bicycle": "n03792782",
}
WEATHER_PARAMETERS = {  # cloudiness, precipitation, fog_density, wetness
    "clear": (10, 0, 0, 0),
    "cloudy": (80, 0, 0, 0),
    "rainy": (90, 80, 10, 90),
    "foggy": (60, 0, 80, 20),
    "snowy": (90, 60, 15, 30),
}
SUN_ALTITUDE = {"daytime": 60, "dusk": 2, "night": -30}


def export_shift(folder: Path, split: str, count: int) -> Path:
    """Returns the folder of SHIFT's discrete layout that holds the first `count` street scenes; each is a sequence of one frame."""
    view = folder / "discrete" / "images" / split / "front"
    frames, rows = [], []
    for index in range(count):
        seed = seed_of(split, "street", index)
        scene, look = sample_scene(seed), drawn_appearance(seed)
        image, mask = render(scene, look)
        sequence = f"{index >> 16:04x}-{index & 0xFFFF:04x}"
        for group in ("img", "semseg"):
            (view / group / sequence).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(view / "img" / sequence / "00000000_img_front.jpg", quality=95)
        Image.fromarray(mask).save(view / "semseg" / sequence / "00000000_semseg_front.png")
        frames.append(_frame(sequence, scene, look, mask))
        weather, time = look.weather, frames[-1]["attributes"]["timeofday_coarse"]
        rows.append((sequence, "discrete", weather, time, weather, time))
    config = {"imageSize": {"width": WIDTH, "height": HEIGHT}, "categories": [{"name": c} for c in CATEGORIES]}
    (view / "det_2d.json").write_text(json.dumps({"frames": frames, "config": config}))
    with (view / "seq.csv").open("w", newline="") as file:
        header = ("video", "shift_type", "start_weather_coarse", "start_timeofday_coarse", "end_weather_coarse", "end_timeofday_coarse")
        csv.writer(file).writerows([header, *rows])
    return view


def export_imagenet(folder: Path, split: str, count: int) -> Path:
    """Returns the folder that holds the first `count` scenes with one dominant vehicle, each in the folder of its class."""
    for index in range(count):
        seed = seed_of(split, "vehicle", index)
        scene = sample_scene(seed, "vehicle")
        place = folder / split / WNIDS[scene.kind]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render(scene, drawn_appearance(seed))[0]).save(place / f"{place.name}_{index}.JPEG", quality=95)
    return folder / split


def _frame(sequence: str, scene: Scene, look: Appearance, mask: np.ndarray) -> dict[str, Any]:
    """Returns what Scalabel's format says of a frame; as in SHIFT, every attribute is a string."""
    time = DUSK if look.time_of_day == "dusk" else look.time_of_day
    numbers = dict(zip(("cloudiness", "precipitation", "fog_density", "wetness"), WEATHER_PARAMETERS[look.weather], strict=True))
    return {
        "name": "00000000_img_front.jpg",
        "videoName": sequence,
        "frameIndex": 0,
        "intrinsics": {"focal": [FOCAL, FOCAL], "center": [scene.centre, scene.horizon], "skew": 0},
        "extrinsics": {"location": [0, 0, CAMERA_HEIGHT], "rotation": [0, 0, 0]},
        "attributes": {
            "weather_coarse": look.weather,
            "timeofday_coarse": time,
            "weather_fine": look.weather,
            "timeofday_fine": time,
            "view": "front",
            "town": "mini",
            "sun_altitude_angle": f"{SUN_ALTITUDE[look.time_of_day]}",
            **{name: f"{value:.1f}" for name, value in numbers.items()},
        },
        "labels": [
            {"id": str(i), "category": category, "attributes": {"type": kind}, "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}
            for i, (category, kind, box) in enumerate(_boxes(scene, look, mask))
        ],
    }


def _boxes(scene: Scene, look: Appearance, mask: np.ndarray) -> Iterator[tuple[str, str, list[float]]]:
    """Yields category, type and 2D box of every vehicle and pedestrian that is in the frame and not wholly hidden."""
    solids = [("pedestrian", f"walker.mini.{t.kind}", PEDESTRIAN, t.x, t.z, (0.5, 0.5, t.height), 0.0) for t in scene.things if t.kind == "pedestrian"]
    for v in scene.vehicles:
        kind = f"vehicle.mini.{v.kind}_{v.colour or look.colour}"
        solids.append(("car" if v.kind == "van" else v.kind, kind, VEHICLE, v.x, v.z, SIZES[v.kind], v.yaw))
    for category, kind, cls, x, near, (length, width, height), yaw in solids:
        cos, sin = np.cos(yaw), np.sin(yaw)
        middle = near + 0.5 * (abs(cos) * length + abs(sin) * width)
        ahead, right, up = (g.ravel() for g in np.meshgrid((-length / 2, length / 2), (-width / 2, width / 2), (0, height)))
        z = np.maximum(middle + ahead * cos - right * sin, 1.0)
        u = np.clip(scene.centre + FOCAL * (x + ahead * sin + right * cos) / z, 0, WIDTH - 1)
        v = np.clip(scene.horizon + FOCAL * (CAMERA_HEIGHT - up) / z, 0, HEIGHT - 1)
        box = [float(u.min()), float(v.min()), float(u.max()), float(v.max())]
        x1, y1, x2, y2 = map(round, box)
        if (mask[y1 : y2 + 1, x1 : x2 + 1] == cls).sum() > 4:
            yield category, kind, box


def main() -> None:
    """Writes the layout that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m dillema.mini.export", description="Writes scenes of the small world in the layout of a real data set.")
    parser.add_argument("layout", choices=("shift", "imagenet"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--count", type=int, default=24)
    given = parser.parse_args()
    export, reads = {"shift": (export_shift, "experiment=exported"), "imagenet": (export_imagenet, "dataset=imagenet")}[given.layout]
    print(f"{given.count} scenes in {export(given.folder, given.split, given.count)}; read them with {reads} dataset.root={given.folder}")


if __name__ == "__main__":
    main()
