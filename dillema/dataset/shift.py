"""SHIFT, the synthetic driving data set (Sun et al., CVPR 2022), in the layout of its download script."""

import io
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from ..errors import UserError
from ..fields import NotNegative, Positive
from ..types import Sample
from .files import Read, list_files, read_later, report_missing
from .scalabel import read_frames
from .selection import subset

log = logging.getLogger(__name__)

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
# as in SHIFT's own evaluation, which keeps Cityscapes' classes
IGNORED = frozenset(i for i, scored in enumerate(_SCORED) if not scored)

ATTRIBUTES = {"weather": "weather_coarse", "time of day": "timeofday_coarse"}
DUSK = "dawn/dusk"  # how SHIFT spells it
COARSE_VALUES = {
    "weather_coarse": ("clear", "cloudy", "overcast", "rainy", "foggy"),
    "timeofday_coarse": ("daytime", DUSK, "night"),
}

Key = tuple[str, str]  # sequence, frame


@dataclass
class Shift:
    """Street scenes with masks below `<root>/discrete/<framerate>/<split>/<view>/` and continuous siblings.

    Images, masks and (if present) depth are read from the downloaded zip archives or from folders of the same
    name. `where` keeps the frames whose attributes (named as in det_2d.json) have one of the listed values;
    `limit` draws this many of them.
    """

    root: str
    split: str = "val"
    view: str = "front"
    framerate: str = "images"
    shift_type: str = "discrete"
    limit: Positive | None = None
    seed: NotNegative = 0
    where: dict[str, list[str] | None] = field(default_factory=dict)
    vary: dict[str, list[str]] = field(default_factory=dict)

    where_values: ClassVar[Mapping[str, Sequence[str]]] = COARSE_VALUES

    name: str = field(default="shift", init=False)
    task: str = field(default="segmentation", init=False)
    classes: tuple[str, ...] = field(default=CLASSES, init=False)
    colours: tuple[tuple[int, int, int], ...] = field(default=COLOURS, init=False)
    ignored: frozenset[int] = field(default=IGNORED, init=False)

    @property
    def folder(self) -> Path:
        """Returns the folder that holds img, semseg, depth and det_2d.json."""
        kind, _, speed = self.shift_type.partition("/")
        return Path(self.root, kind, self.framerate, speed, self.split, self.view).expanduser()

    @property
    def available(self) -> int:
        """Returns the number of samples before limits."""
        return len(self._keys)

    def samples(self) -> list[Sample]:
        """Returns a sample for each frame, by sequence and time; raises a UserError if there are none."""
        images, masks, attributes = self._images, self._masks, self._attributes
        has_depth = any((self.folder / name).exists() for name in ("depth", "depth.zip"))
        depths = self._find_files("depth", "png") if has_depth else {}
        samples = []
        for key in subset(self._keys, self.limit, self.seed):
            frame = "_".join(key)
            absent = f"the {{}} of {frame} is missing in {self.folder}"
            read_depth = depths.get(key, report_missing(absent.format("depth")))
            values = {name: attributes.get(key, {}).get(field) for name, field in ATTRIBUTES.items()}
            samples.append(
                Sample(
                    id=frame,
                    read_image=images.get(key, report_missing(absent.format("image"))),
                    read_mask=masks.get(key, report_missing(absent.format("mask"))),
                    attributes={name: "dusk" if v == DUSK else v for name, v in values.items() if v},
                    group=key[0],
                    read_depth=partial(_read_metres, read_depth) if has_depth else None,
                )
            )
        return samples

    @cached_property
    def _images(self) -> dict[Key, Read]:
        return self._find_files("img", "jpg")

    @cached_property
    def _masks(self) -> dict[Key, Read]:
        return self._find_files("semseg", "png")

    @cached_property
    def _filters(self) -> dict[str, list[str]]:
        return {name: values for name, values in self.where.items() if values is not None}

    @cached_property
    def _keys(self) -> list[Key]:
        """Returns the frames that `where` keeps; raises a UserError when there are none."""
        keys = sorted(self._images.keys() | self._masks.keys())
        if not keys:
            raise UserError(
                f"no frames in {self.folder / 'img'}: the files in it should be called "
                f"<sequence>/<frame>_img_{self.view}.jpg"
            )
        attributes, filters = self._attributes, self._filters

        def matches(key: Key) -> bool:
            return all(attributes.get(key, {}).get(name) in values for name, values in filters.items())

        if matching := [key for key in keys if matches(key)]:
            self._warn_of_absent_values(attributes)
            return matching
        values = Counter(
            f"{name}={attributes[k].get(name)}" for k in keys if k in attributes for name in filters
        )
        names = next(read_frames(self.folder / "det_2d.json"), {}).get("attributes")
        raise UserError(
            f"no frame of {self.folder} matches dataset.where={filters}. Its {len(keys)} frames have: "
            f"{dict(values.most_common(20))}; their attributes are {', '.join(map(str, names or ['none']))}"
        )

    def _warn_of_absent_values(self, attributes: Mapping[Key, Mapping[str, str]]) -> None:
        """Warns of values of `where` that no frame has: the other values hide that they select nothing."""
        for name, values in self._filters.items():
            present = {frame[name] for frame in attributes.values() if name in frame}
            if absent := [value for value in values if value not in present]:
                log.warning(
                    "dataset.where.%s: no frame has %s; they have %s",
                    *(name, ", ".join(absent), ", ".join(sorted(present))),
                )

    @cached_property
    def _attributes(self) -> dict[Key, dict[str, str]]:
        """Returns the used attributes of each frame; empty without det_2d.json and without a filter."""
        path = self.folder / "det_2d.json"
        if not path.is_file() and not self._filters:
            return {}
        used = {*ATTRIBUTES.values(), *self._filters}  # a frame has many more, and a split 150,000 frames
        return {
            (frame["videoName"], frame["name"].partition("_")[0]): {
                name: str(value)
                for name, value in frame["attributes"].items()
                if name in used and value is not None
            }
            for frame in read_frames(path)
        }

    def _find_files(self, group: str, extension: str) -> dict[Key, Read]:
        """Returns, for each frame of a group, the function that reads its file."""
        source = next((s for s in (self.folder / group, self.folder / f"{group}.zip") if s.exists()), None)
        if source is None:
            is_packed = (self.folder / f"{group}.tar").exists()
            videos = f" ({group}.tar holds videos: unpack their frames into {group}/<sequence>/ first)"
            raise UserError(
                f"no SHIFT data in {(self.folder / group).absolute()} (nor {group}.zip beside it)"
                f"{videos if is_packed else ''}: set dataset.root to the folder that holds discrete/ or "
                "continuous/. "
                "SHIFT's own servers have been down in 2026; the small world needs no download: "
                "dataset=mini_shift, "
                f"or `python -m dillema.mini.export shift {self.root} --split {self.split}` to write it in "
                "this layout "
                "(experiment=exported reads it)"
            )
        name = re.compile(rf"([\w.-]+)/([^\W_]+)_{group}_{re.escape(self.view)}\.{extension}")
        matches = ((name.fullmatch(member), member) for member in list_files(source))
        return {(match[1], match[2]): read_later(source, member) for match, member in matches if match}


def _read_metres(read: Read) -> np.ndarray:
    """Returns distances (height, width) from 24 bits for 0 to 1000 m, the lowest in the first channel."""
    pixels = np.asarray(Image.open(io.BytesIO(read())).convert("RGB"), np.float32)
    return pixels @ np.array([1, 1 << 8, 1 << 16], np.float32) * np.float32(1000 / (1 << 24))
