"""SHIFT, the synthetic driving data set (Sun et al., CVPR 2022), as its download script lays it out."""

import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ..errors import ItemError, UserError
from ..types import Sample, Task
from . import subset

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

    Images and masks are read from the zip archives as they were downloaded, or from folders of the same name.
    `where` keeps the frames whose attributes have one of the listed values; `limit` draws that many of them.
    """

    root: str
    split: str = "val"
    view: str = "front"
    framerate: str = "images"
    shift_type: str = "discrete"
    limit: int | None = None
    seed: int = 0
    where: dict[str, list[str]] = field(default_factory=dict)
    vary: dict[str, list[str]] = field(default_factory=dict)

    name: str = field(default="shift", init=False)
    task: Task = field(default="segmentation", init=False)
    classes: tuple[str, ...] = field(default=CLASSES, init=False)
    colours: tuple[tuple[int, int, int], ...] = field(default=COLOURS, init=False)
    ignored: frozenset[int] = field(default=IGNORED, init=False)

    @property
    def folder(self) -> Path:
        """Returns the folder that holds img, semseg and det_2d.json."""
        kind, _, speed = self.shift_type.partition("/")
        return Path(self.root, kind, self.framerate, speed, self.split, self.view)

    def samples(self) -> list[Sample]:
        """Returns one sample a frame that has an image or a mask, by sequence and time; raises a UserError when there are none."""
        images, masks = self._read("img", "jpg"), self._read("semseg", "png")
        if not (keys := sorted(images.keys() | masks.keys())):
            raise UserError(f"no frames in {self.folder / 'img'}: the files in it should be called <sequence>/<frame>_img_{self.view}.jpg")
        attributes = self._attributes()
        kept = [k for k in keys if all(attributes.get(k, {}).get(name) in values for name, values in self.where.items())]
        if not kept:
            known = Counter(f"{name} {value}" for k in keys for name, value in attributes.get(k, {}).items())
            raise UserError(f"no frame of {self.folder} matches dataset.where={self.where}. Its {len(keys)} frames have: {dict(known)}")
        absent = "{1} of {0} is missing in " + str(self.folder)
        return [
            Sample(
                id="_".join(key),
                read_image=images.get(key, partial(_fail, absent.format("_".join(key), "the image"))),
                read_mask=masks.get(key, partial(_fail, absent.format("_".join(key), "the mask"))),
                attributes=attributes.get(key, {}),
                group=key[0],
            )
            for key in subset(kept, self.limit, self.seed)
        ]

    def _read(self, group: str, extension: str) -> dict[Key, Callable[[], bytes]]:
        """Returns, for each frame of a group, the function that reads its file."""
        unpacked, archive = self.folder / group, self.folder / f"{group}.zip"
        if unpacked.is_dir():
            source, members = unpacked, [p.relative_to(unpacked).as_posix() for p in unpacked.glob("*/*")]
        elif archive.is_file():
            source, members = archive, _open(str(archive), os.getpid()).namelist()
        else:
            raise UserError(
                f"no SHIFT data in {unpacked.absolute()} (nor {archive.name} beside it): set dataset.root to the folder that holds discrete/. "
                "SHIFT's own servers have been down in 2026; the small world needs no download: dataset=mini_shift, or "
                f"`python -m dillema.mini.export shift {self.root} --split {self.split}` to write it in this layout"
            )
        name = re.compile(rf"([\w.-]+)/([^\W_]+)_{group}_{re.escape(self.view)}\.{extension}")
        found = ((name.fullmatch(member), member) for member in members)
        return {(match[1], match[2]): partial(_bytes, source, member) for match, member in found if match}

    def _attributes(self) -> dict[Key, dict[str, str]]:
        """Returns what is known of each frame; nothing when there is no det_2d.json and nothing asks for it."""
        path = self.folder / "det_2d.json"
        if not path.is_file() and not self.where:
            return {}
        known = {}
        for frame in frames(path):
            given = frame.get("attributes") or {}
            values = {name: given[key] for name, key in ATTRIBUTES.items() if key in given}
            known[frame["videoName"], frame["name"].partition("_")[0]] = {n: "dusk" if v == DUSK else v for n, v in values.items()}
        return known


def frames(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the frames of a Scalabel file one at a time: the real files have hundreds of megabytes."""
    if not path.is_file():
        raise UserError(f"{path} is missing, and dataset.where needs what it holds: download it, or drop the filter with ~dataset.where")
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


@lru_cache(maxsize=8)
def _open(path: str, process: int) -> zipfile.ZipFile:
    """Returns an archive opened by this process: forks that share a file handle disturb each other."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is damaged ({error}): download it again") from error


def _bytes(source: Path, member: str) -> bytes:
    return (source / member).read_bytes() if source.suffix != ".zip" else _open(str(source), os.getpid()).read(member)


def _fail(message: str) -> bytes:
    raise ItemError(message)
