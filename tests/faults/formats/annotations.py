"""SHIFT's annotations (det_2d.json), read by dataset=shift with a filter."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from dillema.dataset.shift import ATTRIBUTES, Shift

from ..damage import BYTES, JSON, PATHS, TEXT
from ..format import Format
from .images import class_ids, picture
from .tables import decode

PLACE = Path("discrete", "images", "val", "front")
FRAMES = [
    {
        "name": f"{frame:08}_img_front.jpg",
        "videoName": f"vid-{frame % 2}",
        "attributes": {
            "weather_coarse": ("clear", "rainy")[frame % 2],
            "timeofday_coarse": "daytime",
            "town": "1",
        },
        "labels": [{"id": "1", "category": "car", "box2d": {"x1": 1.0, "y1": 2.0, "x2": 30.5, "y2": 20.0}}],
        "frameIndex": frame,
    }
    for frame in range(6)
]


def write(folder: Path) -> None:
    """Writes six frames of two sequences in SHIFT's layout."""
    view = folder / PLACE
    for frame in FRAMES:
        number = frame["name"].partition("_")[0]
        for group, ending, pixels in (("img", "jpg", picture()), ("semseg", "png", class_ids())):
            path = view / group / frame["videoName"] / f"{number}_{group}_front.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (view / "det_2d.json").write_text(json.dumps({"frames": FRAMES, "config": None}))


def _read(folder: Path) -> Any:
    where = {"weather_coarse": None, "timeofday_coarse": ["daytime"]}
    return {sample.id: dict(sample.attributes) for sample in Shift(str(folder), where=where).samples()}


def _parse(folder: Path) -> Any:
    """Returns the same from the module json alone, which reads the file whole."""
    content = json.loads(decode((folder / PLACE / "det_2d.json").read_bytes()))
    found = {}
    frames = content["frames"] if isinstance(content, dict) else content
    by_key = {(f["videoName"], f["name"].partition("_")[0]): f.get("attributes") or {} for f in frames}
    for (video, number), attributes in by_key.items():
        written = {name: str(value) for name, value in attributes.items() if value is not None}
        is_frame = (folder / PLACE / "img" / video / f"{number}_img_front.jpg").exists()
        if is_frame and written.get("timeofday_coarse") == "daytime":
            named = {name: written[field] for name, field in ATTRIBUTES.items() if written.get(field)}
            found[f"{video}_{number}"] = named
    return found


FORMATS = [
    Format("SHIFT's annotations", f"{PLACE}/det_2d.json", write, _read, BYTES | TEXT | PATHS | JSON, _parse)
]
