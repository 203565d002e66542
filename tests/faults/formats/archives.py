"""Zip archives, read by dataset=shift, and Parquet files, read by dataset=huggingface."""

import io
import random
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dillema.dataset import check_sample
from dillema.dataset.huggingface import HuggingFace
from dillema.dataset.shift import Shift

from ..damage import BYTES, PATHS, Damage
from ..format import Format
from . import annotations
from .images import picture

ZIP = annotations.PLACE / "semseg.zip"


def _write_zip(folder: Path) -> None:
    annotations.write(folder)
    masks = folder / annotations.PLACE / "semseg"
    with zipfile.ZipFile(folder / ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(masks.rglob("*.png")):
            archive.write(path, path.relative_to(masks))
    shutil.rmtree(masks)


def _read_zip(folder: Path) -> Any:
    data = Shift(str(folder))
    sample = data.samples()[0]
    check_sample(sample, data)
    return sample.mask


def _of_directory(change: Any) -> Damage:
    """Returns a damage of the first entry of a zip archive's directory."""

    def apply(path: Path, rng: random.Random) -> None:
        content = bytearray(path.read_bytes())
        change(content, content.index(b"PK\1\2"))
        path.write_bytes(content)

    return apply


def _bomb(path: Path, rng: random.Random) -> None:
    with zipfile.ZipFile(path) as archive:
        (name, *others) = archive.namelist()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open(name, "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
        for other in others:
            archive.writestr(other, "")


def _many_members(path: Path, rng: random.Random) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(20_000):
            archive.writestr(f"../{i}", "")


ZIPS = {
    "an encrypted member": _of_directory(lambda content, at: struct.pack_into("<H", content, at + 8, 1)),
    "an unknown compression": _of_directory(lambda content, at: struct.pack_into("<H", content, at + 10, 99)),
    "a wrong checksum": _of_directory(lambda content, at: struct.pack_into("<I", content, at + 16, 12345)),
    "a wrong place": _of_directory(lambda content, at: struct.pack_into("<I", content, at + 42, 1 << 30)),
    "a member of 300 MB": _bomb,
    "many members outside": _many_members,
}


def _write_parquet(folder: Path) -> None:
    folder.mkdir(parents=True)
    images = []
    for shift in range(4):
        file = io.BytesIO()
        Image.fromarray(np.roll(picture(), shift)).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": f"{shift}.png"})
    table = pa.table({"image": images, "label": ["cat", "dog", "cat", "dog"]})
    pq.write_table(table, folder / "validation.parquet", write_page_checksum=True)


def _read_parquet(folder: Path) -> Any:
    data = HuggingFace(str(folder))
    samples = data.samples()
    check_sample(samples[0], data)
    labels = [data.classes[sample.label] for sample in samples]
    return {"image": np.asarray(samples[0].image), "labels": labels}


FORMATS = [
    Format("zip archive", str(ZIP), _write_zip, _read_zip, BYTES | PATHS | ZIPS),
    Format("parquet of datasets", "validation.parquet", _write_parquet, _read_parquet, BYTES | PATHS),
]
