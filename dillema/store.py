"""The store: records of finished work, whose keys are hashes of everything that they depend on."""

import dataclasses
import errno
import fcntl
import io
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from .decoding import DamagedImage, is_whole_png
from .errors import FULL_DISK, UserError
from .files import link, write_atomically
from .keys import digest
from .record_log import ADD, RecordLog, index_folder, is_remote, remote_errors, remote_folder, write_remotely

log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    key TEXT PRIMARY KEY, step TEXT NOT NULL, item TEXT NOT NULL, status TEXT NOT NULL CHECK (status IN
    ('done', 'failed')), value TEXT NOT NULL, message TEXT NOT NULL, raw TEXT NOT NULL, created TEXT NOT
    NULL, seconds REAL NOT NULL, digest TEXT NOT NULL
)
"""
SCHEMA_VERSION = 3  # PRAGMA user_version; 0 is that of version 0.1.0, which set none
KEYS_PER_QUERY = 500  # SQLite allows 999 in its oldest builds
RECENT_RECORDS = 5000  # that tell how long a step takes
DAMAGE = (
    "malformed",
    "not a database",
    "no such column",
    "no such table",
    "has no column",
    "columns but",
    "decode",
)
"""What SQLite says of a damaged file, or of a table of another form."""
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
        """Returns those of the keys that have an image, as far as the ends of its file tell.

        At a remote address it is not looked for: an image is written before its record.
        """
        if is_remote(str(self.folder)):
            return set(keys)
        return {key for key in keys if is_whole_png(self.path(key))}

    def find_key(self, file: Path) -> str | None:
        """Returns the key of an image, or of the one that a file of a run folder links to or copies."""
        if self.folder in file.parents:
            return file.stem
        if is_remote(str(self.folder)) or not file.is_file():
            return None
        return next((own.stem for own in self.folder.glob("*/*.png") if _has_content(own, file)), None)

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
            file = self.folder / "records.db"
            if (file.is_symlink() and not file.exists()) or (file.exists() and not file.is_file()):
                raise OSError(f"{file} is no file")  # opening a pipe would wait for ever
            self._database = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
            self._claims = (self.folder / "claims").open("ab")
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
        if columns and "digest" not in columns:
            self._database.execute("ALTER TABLE records ADD COLUMN digest TEXT NOT NULL DEFAULT ''")
        self._database.execute(SCHEMA)
        self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._database.execute("COMMIT")

    def get(self, keys: Iterable[str]) -> dict[str, Record]:
        """Returns the records that exist, by key; those that the disk has damaged are left out."""
        all_keys = list(keys)
        records: dict[str, Record] = {}
        with usable(self.folder.absolute()):
            for start in range(0, len(all_keys), KEYS_PER_QUERY):
                part = all_keys[start : start + KEYS_PER_QUERY]
                rows = self._database.execute(
                    "SELECT digest, key, item, value, message, raw, seconds FROM records "
                    f"WHERE key IN ({','.join('?' * len(part))})",
                    part,
                )
                for row in rows:
                    if record := _read_row(*row):
                        records[record.key] = record
                    else:
                        log.warning("the record of %s in %s is damaged: made again", row[2], self.folder)
        return records

    def usual_seconds(self) -> dict[str, float]:
        """Returns the mean seconds of an item of each step, over the records written last.

        The slowest is left out, which may have waited for imports; so is a step with one record.
        """
        with usable(self.folder.absolute()):
            rows = self._database.execute(
                "SELECT step, (sum(seconds) - max(seconds)) / (count(*) - 1) "
                "FROM (SELECT step, seconds FROM records WHERE status = 'done' "
                f"ORDER BY rowid DESC LIMIT {RECENT_RECORDS}) GROUP BY step HAVING count(*) > 1"
            )
            return dict(rows.fetchall())

    def put(self, step: str, records: Sequence[Record]) -> None:
        """Writes records in one transaction; their images must be written already."""
        with usable(self.folder.absolute()):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            rows = [_row(step, record, now) for record in records]
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(
                    "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
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

    def claim(self, keys: Iterable[str]) -> list[str]:
        """Returns the keys that no other process of this machine works on, and keeps other processes off.

        A claim ends with `release`, and with the process, however that ends.
        """
        return [key for key in keys if self._lock(key, fcntl.LOCK_EX | fcntl.LOCK_NB)]

    def wait(self, key: str) -> None:
        """Waits until no other process works on a key."""
        self._lock(key, fcntl.LOCK_EX)
        self.release()

    def release(self) -> None:
        """Ends all claims."""
        with suppress(OSError):
            fcntl.lockf(self._claims, fcntl.LOCK_UN)

    @contextmanager
    def healing(self) -> Iterator[None]:
        """Gives up the image that this block finds damaged, in the store or in a run folder that links to it.

        Raises a UserError that names it; the next run makes it again.
        """
        try:
            yield
        except DamagedImage as error:
            key = self.images.find_key(error.path) if error.path else None
            if key is None:
                raise
            image = self.images.path(key)
            with usable(self.folder.absolute()):
                if not is_remote(self.address):  # there, other machines expect the image of their records
                    image.unlink(missing_ok=True)
                self._database.execute("DELETE FROM records WHERE key = ?", (key,))
            raise UserError(
                f"the image {image} of the store was damaged and has been given up: repeat the command, "
                "which makes it again"
            ) from error

    def close(self) -> None:
        """Closes the database, and ends all claims."""
        self._database.close()
        self._claims.close()

    def _lock(self, key: str, mode: int) -> bool:
        """Returns whether the byte of the file of claims that stands for a key could be locked."""
        try:
            fcntl.lockf(self._claims, mode, 1, int(digest(key)[:15], 16))
        except OSError as error:
            return error.errno not in (errno.EAGAIN, errno.EACCES)  # some file systems have no locks
        return True


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Turns errors of the disk and the database of a store into a UserError that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        remedy = "make room on the disk" if "full" in str(error) else "see that the folder can be written to"
        if any(words in str(error) for words in DAMAGE):
            remedy = f"delete the damaged file {folder / 'records.db'}; finished work is then done again"
        raise UserError(
            f"the store in {folder} cannot be used ({error}): {remedy}, or set store=..."
        ) from error
    except OSError as error:
        remedy = "make room on the disk" if error.errno in FULL_DISK else "see that it can be used"
        raise UserError(
            f"the store in {folder} cannot be used ({error}): {remedy}, or set store=..."
        ) from error


def _has_content(file: Path, other: Path) -> bool:
    is_same = file.samefile(other)
    return is_same or (
        file.stat().st_size == other.stat().st_size and file.read_bytes() == other.read_bytes()
    )


def _row(step: str, record: Record, now: str) -> tuple[Any, ...]:
    """Returns the columns of a record; the digest tells a record that the disk has damaged."""
    status, value = "failed" if record.failed else "done", json.dumps(record.value)
    message, raw = storable(record.message), storable(record.raw)[:RAW_LIMIT]
    content = digest(record.key, record.item, value, message, raw)
    return record.key, step, record.item, status, value, message, raw, now, record.seconds, content


def _read_row(
    stored_digest: str, key: str, item: str, value: str, message: str, raw: str, seconds: float
) -> Record | None:
    """Returns a record; None if the disk has damaged it. Records of earlier versions have no digest."""
    try:
        content = json.loads(value)
    except (ValueError, TypeError):
        return None
    is_whole = stored_digest in ("", digest(key, item, value, message, raw))
    return Record(key, item, content, message, raw, seconds) if is_whole else None


def storable(text: str) -> str:
    """Returns a text without lone surrogates, which are not valid Unicode and which SQLite refuses."""
    return text.encode("utf-8", "replace").decode()
