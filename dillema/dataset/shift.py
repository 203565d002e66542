"""SHIFT, the synthetic driving data set (Sun et al., CVPR 2022), as its download script lays it out."""

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..types import Sample, Task
from . import subset
from .files import Read, listed, missing, reader

CLASSES, COLOURS, _SCORED = zip(
    ("unlabeled", (0, 0, 0), False),
    ("building", (70, 70, 70), True),
    ("fence", (100, 40, 40), True),
    ("other", (55, 90, 80), False),
    ("pedestrian", (220, 20, 60), True),
    ("pole", (153, 153, 153), True),
    ("road line", (157, 234, 50), True),
    ("road", (128, 64, 128), True),
    ("sidewalk", (244, 35, 232), True),
    ("vegetation", (107, 142, 35), True),
    ("vehicle", (0, 0, 142), True),
    ("wall", (102, 102, 156), True),
    ("traffic sign", (220, 220, 0), True),
    ("sky", (70, 130, 180), True),
    ("ground", (81, 0, 81), False),
    ("bridge", (150, 100, 100), False),
    ("rail track", (230, 150, 140), False),
    ("guard rail", (180, 165, 180), False),
    ("traffic light", (250, 170, 30), True),
    ("static", (110, 190, 160), False),
    ("dynamic", (170, 120, 50), False),
    ("water", (45, 60, 150), False),
    ("terrain", (145, 170, 100), True),
    strict=True,
)
IGNORED = frozenset(i for i, scored in enumerate(_SCORED) if not scored)  # as in SHIFT's own evaluation, which keeps Cityscapes' classes

ATTRIBUTES = {"weather": "weather_coarse", "time of day": "timeofday_coarse"}
DUSK = "dawn/dusk"  # how SHIFT spells it

CHUNK = 1 << 18
_FRAMES = re.compile(r'\A\s*\[|"frames"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")

Key = tuple[str, str]  # sequence, frame


@dataclass
class Shift:
    """Street scenes with masks, read from `<root>/discrete/<framerate>/<split>/<view>/` and its continuous siblings.

    Images and masks are read from the zip archives as they were downloaded, or from folders of the same name; depth, too, where it is there.
    `where` keeps the frames whose attributes (named as in det_2d.json) have one of the listed values; `limit` draws that many of them.
    """

    root: str
    split: str = "val"
    view: str = "front"
    framerate: str = "images"
    shift_type: str = "discrete"
    limit: int | None = None
    seed: int = 0
    where: dict[str, list[str] | None] = field(default_factory=dict)
    vary: dict[str, list[str]] = field(default_factory=dict)

    name: str = field(default="shift", init=False)
    task: Task = field(default="segmentation", init=False)
    classes: tuple[str, ...] = field(default=CLASSES, init=False)
    colours: tuple[tuple[int, int, int], ...] = field(default=COLOURS, init=False)
    ignored: frozenset[int] = field(default=IGNORED, init=False)

    @property
    def folder(self) -> Path:
        """Returns the folder that holds img, semseg, depth and det_2d.json."""
        kind, _, speed = self.shift_type.partition("/")
        return Path(self.root, kind, self.framerate, speed, self.split, self.view)

    def samples(self) -> list[Sample]:
        """Returns one sample a frame that has an image or a mask, by sequence and time; raises a UserError when there are none."""
        images, masks = self._read("img", "jpg"), self._read("semseg", "png")
        if not (keys := sorted(images.keys() | masks.keys())):
            raise UserError(f"no frames in {self.folder / 'img'}: the files in it should be called <sequence>/<frame>_img_{self.view}.jpg")
        where = {name: values for name, values in self.where.items() if values is not None}
        known = self._attributes(where)
        kept = [k for k in keys if all(known.get(k, {}).get(name) in values for name, values in where.items())]
        if not kept:
            there = Counter(f"{name}={known[k].get(name)}" for k in keys if k in known for name in where)
            names = next(frames(self.folder / "det_2d.json"), {}).get("attributes")
            raise UserError(
                f"no frame of {self.folder} matches dataset.where={where}. Its {len(keys)} frames have: {dict(there.most_common(20))}; "
                f"their attributes are {', '.join(names or ['none'])}"
            )
        depths = self._read("depth", "png") if any(Path(self.folder, name).exists() for name in ("depth", "depth.zip")) else None
        absent = "the {} of {} is missing in " + str(self.folder)
        return [
            Sample(
                id="_".join(key),
                read_image=images.get(key, missing(absent.format("image", "_".join(key)))),
                read_mask=masks.get(key, missing(absent.format("mask", "_".join(key)))),
                attributes={n: "dusk" if value == DUSK else value for n, name in ATTRIBUTES.items() if (value := known.get(key, {}).get(name))},
                group=key[0],
                read_depth=None if depths is None else partial(_metres, depths.get(key, missing(absent.format("depth", "_".join(key))))),
            )
            for key in subset(kept, self.limit, self.seed)
        ]

    def _read(self, group: str, extension: str) -> dict[Key, Read]:
        """Returns, for each frame of a group, the function that reads its file."""
        source = next((s for s in (self.folder / group, self.folder / f"{group}.zip") if s.exists()), None)
        if source is None:
            videos = f" ({group}.tar holds videos: unpack their frames into {group}/<sequence>/ first)" if (self.folder / f"{group}.tar").exists() else ""
            raise UserError(
                f"no SHIFT data in {(self.folder / group).absolute()} (nor {group}.zip beside it){videos}: set dataset.root to the folder that holds "
                "discrete/ or continuous/. SHIFT's own servers have been down in 2026; the small world needs no download: dataset=mini_shift, or "
                f"`python -m dillema.mini.export shift {self.root} --split {self.split}` to write it in this layout (experiment=exported reads it)"
            )
        name = re.compile(rf"([\w.-]+)/([^\W_]+)_{group}_{re.escape(self.view)}\.{extension}")
        found = ((name.fullmatch(member), member) for member in listed(source))
        return {(match[1], match[2]): reader(source, member) for match, member in found if match}

    def _attributes(self, where: dict[str, list[str]]) -> dict[Key, dict[str, str]]:
        """Returns what is known of each frame and asked for here; nothing when there is no det_2d.json and nothing asks for it."""
        path = self.folder / "det_2d.json"
        if not path.is_file() and not where:
            return {}
        asked = {*ATTRIBUTES.values(), *where}  # a frame has many more, and a split 150,000 frames
        return {
            (frame["videoName"], frame["name"].partition("_")[0]): {n: v for n, v in (frame.get("attributes") or {}).items() if n in asked}
            for frame in frames(path)
        }


def _metres(read: Read) -> np.ndarray:
    """Returns the distances (height, width) in a depth map: 24 bits for 0 to 1000 m, the lowest in the first channel."""
    pixels = np.asarray(Image.open(io.BytesIO(read())).convert("RGB"), np.float32)
    return pixels @ np.array([1, 1 << 8, 1 << 16], np.float32) * np.float32(1000 / (1 << 24))


def frames(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the frames of a Scalabel file one at a time: the real files have hundreds of megabytes."""
    if not path.is_file():
        raise UserError(f"{path} is missing, and dataset.where needs what it holds: download it, or set the filter to null")
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8") as file:
        text, at = file.read(CHUNK), 0
        if not (start := _FRAMES.search(text)):
            raise UserError(f"{path} is not a Scalabel file: it should begin with a list of frames")
        at = start.end()
        while True:
            at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty string too
            if text.startswith("]", at):
                return
            try:
                frame, at = decoder.raw_decode(text, at)
            except json.JSONDecodeError as error:
                more = file.read(CHUNK)
                if not more or len(text) - at > 16 * CHUNK:  # no frame is as long as that
                    raise UserError(f"{path} is damaged: {error}. Download it again") from error
                text, at = text[at:] + more, 0
            else:
                yield frame
