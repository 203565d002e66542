"""Texts that a user writes: the classes file, ImageNet's list of labels, a file of prompts."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dillema.dataset.folder import Folder
from dillema.dataset.imagenet import ImageNet, classes

from ..damage import BYTES, PATHS, TEXT
from ..format import Format
from .images import CLASSES, class_ids, picture

WNIDS = ("n01440764", "n02109047", "n04467665")


def decode(content: bytes) -> str:
    """Returns a text as an editor opens it, by its byte order mark."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def _write_classes(folder: Path) -> None:
    for part, pixels in (("images", picture()), ("masks", class_ids())):
        (folder / part).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / part / "a.png")
    (folder / "classes.csv").write_text(
        CLASSES.replace("colour\n", "colour,ignore\n") + 'void,255,"#000000",yes\n'
    )


def _read_classes(folder: Path) -> Any:
    data = Folder(str(folder), images="images", masks="masks", classes_file=str(folder / "classes.csv"))
    data.samples()
    return data.classes, data.colours, data.ignored


def _parse_classes(folder: Path) -> Any:
    """Returns the classes of a CSV file by the module csv alone."""
    rows = list(
        csv.DictReader(io.StringIO(decode((folder / "classes.csv").read_bytes())), skipinitialspace=True)
    )
    cells = [
        {(name or "").strip().lower(): (value or "").strip() for name, value in row.items()} for row in rows
    ]
    by_id = {int(row.get("id", i)): row for i, row in enumerate(cells)}
    count = next(i for i in range(300) if i not in by_id)
    names = tuple(by_id[i]["name"] for i in range(count))
    colours = tuple(tuple(bytes.fromhex(by_id[i]["colour"][1:])) for i in range(count))
    ignored = {i for i, row in by_id.items() if row.get("ignore", "").lower() in ("yes", "true", "1")}
    return names, colours, frozenset(ignored)


def _write_labels(folder: Path) -> None:
    (folder / "val").mkdir(parents=True)
    for i in range(6):
        Image.fromarray(np.roll(picture(), i)).save(folder / "val" / f"ILSVRC2012_val_{i:08}.JPEG")
    lines = [f"ILSVRC2012_val_{i:08},{WNIDS[i % 3]}" for i in range(6)]
    (folder / "labels.csv").write_text("ImageId,PredictionString\n" + "\n".join(lines) + "\n")


def _read_labels(folder: Path) -> Any:
    """Returns the labels of the photographs that exist; the others fail one by one."""
    data = ImageNet(str(folder), labels=str(folder / "labels.csv"))
    return sorted(
        (sample.id, sample.label)
        for sample in data.samples()
        if (folder / "val" / f"{sample.id}.JPEG").exists()
    )


def _parse_labels(folder: Path) -> Any:
    ids, found = list(classes()), []
    for line in decode((folder / "labels.csv").read_bytes()).splitlines():
        if match := re.match(r"(\S+?)[,\s]+(n\d{8}|\d+)(?=[,\s]|$)", line):
            name, label = match[1].removesuffix(".JPEG"), match[2]
            if "/" not in name and len(name) < 100 and (folder / "val" / f"{name}.JPEG").exists():
                found.append((name, ids.index(label) if label[0] == "n" else int(label)))
    return sorted(found)


FORMATS = [
    Format(
        "classes file", "classes.csv", _write_classes, _read_classes, BYTES | TEXT | PATHS, _parse_classes
    ),
    Format(
        "ImageNet's labels", "labels.csv", _write_labels, _read_labels, BYTES | TEXT | PATHS, _parse_labels
    ),
]
