"""Records of finished work, found again by what they were made from."""

import dataclasses
import errno
import hashlib
import io
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import UserError
from .fields import TRANSIENT, WEIGHTS, marked_fields

log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    key TEXT PRIMARY KEY, step TEXT NOT NULL, item TEXT NOT NULL, status TEXT NOT NULL CHECK (status IN
    ('done', 'failed')), value TEXT NOT NULL, message TEXT NOT NULL, raw TEXT NOT NULL, created TEXT NOT
    NULL, seconds REAL NOT NULL
)
"""
SCHEMA_VERSION = 2  # PRAGMA user_version; 0 is that of version 0.1.0, which set none
KEYS_PER_QUERY = 500  # SQLite allows 999 in its oldest builds
RAW_LIMIT = 10_000  # characters of a raw reply that are kept


@dataclasses.dataclass(frozen=True)
class Record:
    """What a step made of an item, or why it could not.

    Attributes:
        key: Hash of what it was made from.
        item: The item's id.
        value: JSON.
        message: Why the item failed; "" when it did not.
        raw: The raw reply of a failed item, if there was one.
        seconds: What the work took; that of a batch is shared out evenly.
    """

    key: str
    item: str
    value: Any = None
    message: str = ""
    raw: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Returns whether the step could not do the item."""
        return bool(self.message)


def identity(backend: Any) -> Any:
    """Returns what results of a back-end depend on, as JSON: class, version, fields, content of weights.

    Fields hinted `Transient` are left out; those hinted `Weights` stand for the content of the file or
    folder that they name, or for themselves when they name none (a hub id). A back-end within a back-end
    has its own identity.
    """
    if isinstance(backend, (list, tuple)):
        return [identity(part) for part in backend]
    if isinstance(backend, Mapping):
        return {str(name): identity(part) for name, part in backend.items()}
    if not dataclasses.is_dataclass(backend) or isinstance(backend, type):
        return backend
    backend_class = type(backend)
    transient = marked_fields(backend_class, TRANSIENT)
    values = {
        field.name: getattr(backend, field.name)
        for field in dataclasses.fields(backend)
        if field.init and field.name not in transient
    }
    for name in marked_fields(backend_class, WEIGHTS):
        values[name] = weights_content(values[name])
    described = {
        "class": f"{backend_class.__module__}.{backend_class.__qualname__}",
        "version": getattr(backend_class, "version", 1),
    }
    if package_data := getattr(backend_class, "package_data", ()):
        described["package_data"] = weights_content(package_data)
    return described | {name: identity(value) for name, value in values.items()}


def digest(*parts: Any) -> str:
    """Returns a hash of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def seed_for(seed: int, item: str, purpose: str, variant: int = 0) -> int:
    """Returns the seed (31 bits) of one random choice: it depends on nothing but these."""
    return int(digest(seed, item, purpose, variant)[:8], 16) >> 1


def weights_content(named: Any) -> Any:
    """Returns a hash of the content of what is named, one by one where a field names several."""
    if isinstance(named, Mapping):
        return {name: weights_content(each) for name, each in named.items()}
    if isinstance(named, (list, tuple)):
        return [weights_content(each) for each in named]
    if named is None or not Path(named).exists():
        return named
    return _hash_path(Path(named).resolve())


def _hash_path(path: Path) -> str:
    """Returns a hash of a file, or of all files of a folder with their names."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    hashes = [_hash_file(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return digest([(str(file.relative_to(path)), hashed) for file, hashed in zip(files, hashes, strict=True)])


@cache  # the runs of a sweep share a process, and gigabytes take seconds
def _hash_file(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(source: Path, target: Path) -> None:
    """Gives a file a second name, or copies it where the two are on different disks.

    Replaces what was there.
    """
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copy(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # where both were the same file already, `replace` does nothing


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that it is there whole or not at all, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Store:
    """The records under one folder: `records.db` and `images/`. Several processes may use it at once.

    Raises a UserError when the folder or its database cannot be used; one of an older version is brought up
    to date.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        with self._usable():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.folder / "records.db", timeout=60, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            # a killed process loses nothing; a power cut at most the last records
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._migrate()

    def _migrate(self) -> None:
        """Creates the table, or brings that of an older version up to date."""
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == SCHEMA_VERSION:
            return
        if version > SCHEMA_VERSION:
            raise UserError(
                f"the store in {self.folder.absolute()} was written by a newer version of DILLEMA "
                f"(format {version}, this version reads {SCHEMA_VERSION}): update DILLEMA, or set store=..."
            )
        self._database.execute("BEGIN IMMEDIATE")
        columns = [row[1] for row in self._database.execute("PRAGMA table_info(records)")]
        if "stage" in columns:
            log.warning(
                "the store in %s was written by version 0.1 of DILLEMA: its records belong to other "
                "versions of the steps and are not used again (delete the folder to free its disk space)",
                self.folder,
            )
            self._database.execute("ALTER TABLE records RENAME COLUMN stage TO step")
            self._database.execute("ALTER TABLE records ADD COLUMN seconds REAL NOT NULL DEFAULT 0")
        self._database.execute(SCHEMA)
        self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._database.execute("COMMIT")

    def get(self, keys: Iterable[str]) -> dict[str, Record]:
        """Returns the records that exist, by key."""
        wanted = list(keys)
        records: dict[str, Record] = {}
        with self._usable():
            for start in range(0, len(wanted), KEYS_PER_QUERY):
                part = wanted[start : start + KEYS_PER_QUERY]
                rows = self._database.execute(
                    "SELECT key, item, value, message, raw, seconds FROM records "
                    f"WHERE key IN ({','.join('?' * len(part))})",
                    part,
                )
                for key, item, value, message, raw, seconds in rows:
                    records[key] = Record(key, item, json.loads(value), message, raw, seconds)
        return records

    def put(self, step: str, records: Sequence[Record], images: Mapping[str, Image.Image]) -> None:
        """Keeps records, all or none of them.

        Their `images`, by key, are on the disk before any record is.
        """
        with self._usable():
            for key, image in images.items():
                self._write_image(key, image)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            rows = [
                (
                    *(record.key, step, record.item),
                    *("failed" if record.failed else "done", json.dumps(record.value)),
                    *(_storable(record.message), _storable(record.raw)[:RAW_LIMIT], now, record.seconds),
                )
                for record in records
            ]  # fmt: skip
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(
                    "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
                )
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def image(self, key: str) -> Path:
        """Returns where the image of a record lies."""
        return self.folder / "images" / key[:2] / f"{key}.png"

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Turns what the disk or the database cannot do into a UserError that says what to do."""
        place = self.folder.absolute()
        try:
            yield
        except sqlite3.DatabaseError as error:
            remedy = (
                "make room on the disk" if "full" in str(error) else "see that the folder can be written to"
            )
            if "malformed" in str(error) or "not a database" in str(error):
                remedy = f"delete the damaged file {place / 'records.db'}, and finished work is done again"
            raise UserError(
                f"the store in {place} cannot be used ({error}): {remedy}, or set store=..."
            ) from error
        except OSError as error:
            remedy = (
                "make room on the disk"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "see that it can be used"
            )
            raise UserError(
                f"the store in {place} cannot be used ({error}): {remedy}, or set store=..."
            ) from error

    def _write_image(self, key: str, image: Image.Image) -> None:
        file = io.BytesIO()
        image.save(file, "PNG")
        path = self.image(key)
        write_atomically(path, file.getvalue())
        path.chmod(0o444)  # run folders link to it: whoever edits an image there must not change the record


def _storable(text: str) -> str:
    """Returns a text without what is no Unicode (lone surrogates), which SQLite refuses."""
    return text.encode("utf-8", "replace").decode()
