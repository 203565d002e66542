"""The store: records of finished work, whose keys are hashes of everything that they depend on."""

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
from .record_log import ADD, RecordLog, index_folder, is_remote, remote_errors, remote_folder, write_remotely

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
RECENT_RECORDS = 5000  # that tell how long a step takes
RAW_LIMIT = 10_000  # characters of a raw reply that are stored


@dataclasses.dataclass(frozen=True)
class Record:
    """The result of a step for an item, or the reason of its failure.

    Attributes:
        key: A hash of everything that the result depends on.
        item: The item's id.
        value: The result, as JSON.
        message: Why the item failed; "" if it did not.
        raw: The raw reply of the model for a failed item, if there was one.
        seconds: The time of the work; the time of a batch is divided equally among its items.
    """

    key: str
    item: str
    value: Any = None
    message: str = ""
    raw: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Returns whether the item failed."""
        return bool(self.message)


def identity(backend: Any) -> Any:
    """Returns what the results of a back-end depend on, as JSON: class, version, fields, content of weights.

    Fields hinted `Transient` are left out. A field hinted `Weights` is replaced by a hash of the file or
    folder that it names; a name that is no path (a hub id) stays as it is. The identity of a back-end inside
    a back-end is computed in the same way.
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
    """Returns the seed (31 bits) of one random choice, which depends only on the arguments."""
    return int(digest(seed, item, purpose, variant)[:8], 16) >> 1


def weights_content(setting: Any) -> Any:
    """Returns a hash of the file or folder that a setting names; of each of them where it names several."""
    if isinstance(setting, Mapping):
        return {name: weights_content(member) for name, member in setting.items()}
    if isinstance(setting, (list, tuple)):
        return [weights_content(member) for member in setting]
    if setting is None or not Path(setting).exists():
        return setting
    return _hash_path(Path(setting).resolve())


def _hash_path(path: Path) -> str:
    """Returns a hash of a file, or of all files of a folder with their names."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    hashes = [_hash_file(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return digest([(str(file.relative_to(path)), hashed) for file, hashed in zip(files, hashes, strict=True)])


@cache  # the runs of a sweep share a process, and hashing gigabytes takes seconds
def _hash_file(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(source: Path, target: Path) -> None:
    """Makes a hard link to a file, or a copy of it on another disk; replaces the target if it exists.

    The source may be at a remote address.
    """
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        if isinstance(source, Path):
            os.link(source, temporary)
        else:
            temporary.write_bytes(source.read_bytes())
    except OSError:
        shutil.copy(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # `replace` does nothing if both are the same file


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file completely or not at all, even if the power fails."""
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


@dataclasses.dataclass(frozen=True)
class Images:
    """The image files of a store, by the keys of their records. Pickled, it writes from other processes.

    Attributes:
        folder: The folder that holds them, of this machine or at a remote address.
    """

    folder: Path

    def path(self, key: str) -> Path:
        """Returns the path of the image of a record."""
        return self.folder / key[:2] / f"{key}.png"

    def find(self, keys: Iterable[str]) -> set[str]:
        """Returns those of the keys that have an image.

        At a remote address it is not looked for: an image is written before its record.
        """
        if is_remote(str(self.folder)):
            return set(keys)
        return {key for key in keys if self.path(key).exists()}

    def write(self, key: str, image: Image.Image) -> None:
        """Writes an image, completely or not at all; raises a UserError if the disk cannot be used."""
        file = io.BytesIO()
        image.save(file, "PNG")
        self.write_file(key, file.getvalue())

    def write_file(self, key: str, content: bytes) -> None:
        """Writes the file of an image, as `write` does."""
        path = self.path(key)
        if is_remote(str(self.folder)):
            with remote_errors(str(self.folder)):
                write_remotely(path, content)
            return
        with usable(self.folder.parent):
            write_atomically(path, content)
            path.chmod(0o444)  # run folders link to it: an edit there must not change the record


class Store:
    """The records in a folder: `records.db` and `images/`. Several processes may use it at the same time.

    The folder may be at a remote address that fsspec knows, such as s3://bucket/folder (see
    `dillema.record_log`). A database of an older version is migrated. Raises a UserError if the folder or its
    database cannot be used.

    Attributes:
        address: The absolute path or the address.
        folder: The folder of this machine that holds the database.
        images: The images.
    """

    def __init__(self, folder: str | Path) -> None:
        if is_remote(folder):
            self.address = str(folder)
            self.folder, images = index_folder(self.address), remote_folder(self.address) / "images"
        else:
            self.folder = Path(folder).expanduser()
            self.address = str(self.folder.absolute())
            images = self.folder.absolute() / "images"
        self.images = Images(images)
        with usable(self.folder.absolute()):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self.folder / "records.db", timeout=60, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            # a killed process loses nothing; a power cut at most the last records
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._migrate()
            self._log = RecordLog(self.address, self._database) if is_remote(folder) else None
        if self._log:
            self._log.read()

    def _migrate(self) -> None:
        """Creates the table, or migrates that of an older version."""
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
        all_keys = list(keys)
        records: dict[str, Record] = {}
        with usable(self.folder.absolute()):
            for start in range(0, len(all_keys), KEYS_PER_QUERY):
                part = all_keys[start : start + KEYS_PER_QUERY]
                rows = self._database.execute(
                    "SELECT key, item, value, message, raw, seconds FROM records "
                    f"WHERE key IN ({','.join('?' * len(part))})",
                    part,
                )
                for key, item, value, message, raw, seconds in rows:
                    records[key] = Record(key, item, json.loads(value), message, raw, seconds)
        return records

    def usual_seconds(self) -> dict[str, float]:
        """Returns the mean seconds of an item of each step, over the records written last."""
        with usable(self.folder.absolute()):
            rows = self._database.execute(
                "SELECT step, avg(seconds) FROM (SELECT step, seconds FROM records WHERE status = 'done' "
                f"ORDER BY rowid DESC LIMIT {RECENT_RECORDS}) GROUP BY step"
            )
            return dict(rows.fetchall())

    def put(self, step: str, records: Sequence[Record]) -> None:
        """Writes records in one transaction; their images must be written already."""
        with usable(self.folder.absolute()):
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
                self._note([record.key for record in records])
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
        if self._log and self._log.is_due():
            self._log.write()

    def flush(self) -> None:
        """Writes what a remote address does not have yet."""
        if self._log:
            self._log.write()

    def _note(self, keys: Sequence[str]) -> None:
        if self._log:
            self._log.note(keys)

    def join(self, folder: str | Path) -> int:
        """Adds the records and images of another store; returns how many records were added.

        A record that is here already stays, unless it is one of a failure and the other store has a result.
        """
        other = Store(folder)
        with usable(self.folder.absolute()):
            # images first: a record without its image would be computed again
            for file in other.images.folder.glob("*/*.png"):
                target = self.image(file.stem)
                if target.exists():
                    continue
                if is_remote(self.address):
                    self.images.write_file(file.stem, file.read_bytes())
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    link(file, target)
            other.close()
            self._database.execute("ATTACH ? AS other", (str(other.folder / "records.db"),))
            try:
                added = self._database.execute(
                    f"INSERT INTO main.records SELECT * FROM other.records WHERE true {ADD}"
                )
                keys = [key for (key,) in self._database.execute("SELECT key FROM other.records")]
                self._note(keys)
            finally:
                self._database.execute("DETACH other")
        self.flush()
        return added.rowcount

    def image(self, key: str) -> Path:
        """Returns the path of the image of a record."""
        return self.images.path(key)

    def close(self) -> None:
        """Closes the database."""
        self._database.close()


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Turns errors of the disk and the database of a store into a UserError that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        remedy = "make room on the disk" if "full" in str(error) else "see that the folder can be written to"
        if "malformed" in str(error) or "not a database" in str(error):
            remedy = f"delete the damaged file {folder / 'records.db'}; finished work is then done again"
        raise UserError(
            f"the store in {folder} cannot be used ({error}): {remedy}, or set store=..."
        ) from error
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room on the disk" if is_full else "see that it can be used"
        raise UserError(
            f"the store in {folder} cannot be used ({error}): {remedy}, or set store=..."
        ) from error


def _storable(text: str) -> str:
    """Returns a text without lone surrogates, which are not valid Unicode and which SQLite refuses."""
    return text.encode("utf-8", "replace").decode()
