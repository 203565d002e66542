"""Records that survive: one per (stage, item), found again by what it was made from."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import UserError

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    key TEXT PRIMARY KEY, stage TEXT NOT NULL, item TEXT NOT NULL, status TEXT NOT NULL CHECK (status IN ('done', 'failed')),
    value TEXT NOT NULL, message TEXT NOT NULL, raw TEXT NOT NULL, created TEXT NOT NULL
)
"""
AT_ONCE = 500  # keys in a question; SQLite allows 999 in its oldest builds


@dataclasses.dataclass(frozen=True)
class Record:
    """What a stage made of an item (`value`, JSON), or why it could not (`message`, and the `raw` reply if there was one)."""

    key: str
    item: str
    value: Any = None
    message: str = ""
    raw: str = ""

    @property
    def failed(self) -> bool:
        """Returns whether the stage could not do the item."""
        return bool(self.message)


def identity(backend: Any) -> Any:
    """Returns what a result of a back-end depends on, as JSON: its class, version, fields and the content of its weights.

    Fields that its class names in `transient` are left out; those in `weights` stand for the content of the file or folder
    they name, or for themselves when they name none (a hub id). A back-end within a back-end has its own identity.
    """
    if isinstance(backend, (list, tuple)):
        return [identity(part) for part in backend]
    if not dataclasses.is_dataclass(backend):
        return backend
    kind = type(backend)
    fields = {f.name: getattr(backend, f.name) for f in dataclasses.fields(backend) if f.init and f.name not in getattr(kind, "transient", ())}
    for name in getattr(kind, "weights", ()):
        fields[name] = _weights(fields[name])
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "version": getattr(kind, "version", 1)} | {n: identity(v) for n, v in fields.items()}


def digest(*parts: Any) -> str:
    """Returns a hash of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def seed_for(seed: int, item: str, stage: str, variant: int = 0) -> int:
    """Returns the seed (31 bits) of one random choice: it depends on nothing but these."""
    return int(digest(seed, item, stage, variant)[:8], 16) >> 1


def _weights(named: Any) -> Any:
    """Returns the content of what is named, one by one where a field names several."""
    if isinstance(named, Mapping):
        return {name: _weights(each) for name, each in named.items()}
    return _content(Path(named).resolve()) if named is not None and Path(named).exists() else named


def _content(path: Path) -> str:
    """Returns a hash of a file, or of all files of a folder with their names."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return digest([(str(f.relative_to(path)), _file(f, f.stat().st_size, f.stat().st_mtime_ns)) for f in files])


@cache  # the runs of a sweep share a process, and gigabytes take seconds
def _file(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(source: Path, target: Path) -> None:
    """Gives a file of the store a second name, or copies it where the two are on different disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


class Store:
    """The records under one folder: `records.db` and `images/`. Several processes may use it at the same time."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.folder / "records.db", timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a killed process loses nothing; a power cut at most the last records
            self._db.execute(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"the store in {self.folder.absolute()} cannot be opened: {error}. Set store=... to a folder that can be written to") from error

    def get(self, keys: Iterable[str]) -> dict[str, Record]:
        """Returns the records that exist, by key."""
        wanted, found = list(keys), {}
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            rows = self._db.execute(f"SELECT key, item, value, message, raw FROM records WHERE key IN ({','.join('?' * len(some))})", some)
            found.update({key: Record(key, item, json.loads(value), message, raw) for key, item, value, message, raw in rows})
        return found

    def put(self, stage: str, records: Sequence[Record], images: Mapping[str, Image.Image]) -> None:
        """Keeps records, all or none of them; `images` are theirs, by key, and are on the disk before any record is."""
        for key, image in images.items():
            self._write(key, image)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = [(r.key, stage, r.item, "failed" if r.failed else "done", json.dumps(r.value), r.message, r.raw, now) for r in records]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def image(self, key: str) -> Path:
        """Returns where the image of a record lies."""
        return self.folder / "images" / key[:2] / f"{key}.png"

    def close(self) -> None:
        """Lets go of the database."""
        self._db.close()

    def _write(self, key: str, image: Image.Image) -> None:
        file = io.BytesIO()
        image.save(file, "PNG")
        path = self.image(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as out:
            out.write(file.getvalue())
            out.flush()
            os.fsync(out.fileno())
        temporary.chmod(0o444)  # run folders link to it: who edits an image there must not change the record
        temporary.replace(path)
