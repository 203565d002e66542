"""The job that writes the generated set of a run as a few tar files."""

import hashlib
import io
import json
import logging
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..context import JobContext
from ..fields import Positive
from ..run_folder import COUNTED_IMAGES, REJECTED_IMAGES, read_metadata
from .report import open_run

log = logging.getLogger(__name__)

FOLDER = "webdataset"
FILE_COLUMN = "_file_name"  # the end of the names of columns that hold the path of another file of an image


def pack(context: JobContext, images_per_file: Positive) -> Path:
    """Writes `webdataset/` into the folder of the job, and returns it.

    It holds `generated/images-000000.tar` and so on, with the images that count, `rejected-000000.tar` with
    the others, and the same for the placebos. The members of an image have its id as their name: `<id>.png`,
    `<id>.json` with its line of metadata.jsonl, `<id>.cls` with its class id or `<id>.mask.png` with its
    mask. Dots in an id become underscores, and a hash is added, because webdataset reads the name up to its
    first dot. The bytes depend on the run alone.
    """
    source = open_run(context)
    target = context.folder / FOLDER
    for part in ("generated", "placebo"):
        for kind, is_valid in ((COUNTED_IMAGES, True), (REJECTED_IMAGES, False)):
            rows = (row for row in read_metadata(source.path / part) if row["valid"] is is_valid)
            count = _write(rows, source.path / part, target / part, kind, images_per_file)
            if count:
                log.info("%s: %d images", target / part / f"{kind}-*.tar", count)
    return target


def _write(rows: Iterator[dict[str, Any]], source: Path, target: Path, kind: str, per_file: int) -> int:
    """Writes the images of rows to numbered files; returns how many there were."""
    count, archive, temporary = 0, None, target / ".tmp"
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{kind}-*.tar"):
        old.unlink()
    for row in rows:
        if count % per_file == 0:
            if archive is not None:
                archive.close()
                temporary.replace(target / f"{kind}-{count // per_file - 1:06}.tar")
            archive = tarfile.open(temporary, "w")  # noqa: SIM115  # closed when it is full
        assert archive is not None
        for name, content in _members(row, source):
            member = tarfile.TarInfo(name)  # without times and owners
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        count += 1
    if archive is not None:
        archive.close()
        temporary.replace(target / f"{kind}-{(count - 1) // per_file:06}.tar")
    return count


def _members(row: Mapping[str, Any], source: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the name and the content of the members of an image."""
    key = _make_key(Path(row["file_name"]).stem)
    yield f"{key}.png", (source / row["file_name"]).read_bytes()
    files = {name: path for name, path in row.items() if name.endswith(FILE_COLUMN)}
    for name, path in files.items():
        yield f"{key}.{name.removesuffix(FILE_COLUMN)}.png", (source / path).read_bytes()
    if row.get("label") is not None:
        yield f"{key}.cls", str(row["label"]).encode()
    rest = {name: value for name, value in row.items() if name not in (*files, "file_name", "label_columns")}
    yield f"{key}.json", json.dumps({"id": Path(row["file_name"]).stem, **rest}).encode()


def _make_key(image: str) -> str:
    if "." not in image:
        return image
    return f"{image.replace('.', '_')}-{hashlib.sha256(image.encode()).hexdigest()[:8]}"
