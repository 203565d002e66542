"""The records of a store at a remote address, such as s3://bucket/folder: files that are written once.

An object store has no database. Each machine has an index of its own (SQLite, in its cache), from which it
reads; what it adds, it also writes as a new file of JSON lines. Files are never changed, so any number of
machines may use the address at the same time. A machine reads the files of others when it opens the store.
"""

import hashlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    from upath import UPath

SECONDS_BETWEEN_FILES = 30  # what a machine that is lost has not written yet is done again
# have no folders, and would make a bucket in their place
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "r2")
COLUMNS = "key, step, item, status, value, message, raw, created, seconds, digest"
ADD = """
ON CONFLICT (key) DO UPDATE SET step = excluded.step, item = excluded.item, status = excluded.status,
value = excluded.value, message = excluded.message, raw = excluded.raw, created = excluded.created,
seconds = excluded.seconds, digest = excluded.digest
WHERE records.status = 'failed' AND excluded.status = 'done'
"""
"""The end of an INSERT of another store's records: a result replaces a failure, and nothing else changes."""


def is_remote(address: str | Path) -> bool:
    """Returns whether an address is no folder of this machine."""
    return "://" in str(address)


def remote_folder(address: str) -> "UPath":
    """Returns the folder at an address; raises a UserError if the package for its kind is missing."""
    with remote_errors(address):
        from upath import UPath

        # listings are not kept: other machines add files
        return UPath(address, use_listings_cache=False)


def index_folder(address: str) -> Path:
    """Returns the folder of this machine's index of a remote store."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "dillema" / "stores" / hashlib.sha256(address.encode()).hexdigest()[:16]


@contextmanager
def remote_errors(address: str) -> Iterator[None]:
    """Turns whatever a remote file system raises into a UserError that says what to do."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"the store {address} needs a package: {error}. pip install 'dillema[remote]' brings "
            "universal-pathlib and s3fs; other kinds of address need the package that fsspec names"
        ) from error
    except Exception as error:  # each kind of file system has exceptions of its own
        raise UserError(
            f"the store {address} cannot be used ({type(error).__name__}: {error}): see that it exists and "
            "that the credentials of this machine allow reading and writing. Finished work is kept; the same "
            "command goes on"
        ) from error


def write_remotely(path: "UPath", content: bytes) -> None:
    """Writes a file; makes its folder where the address has folders."""
    if path.protocol not in OBJECT_STORES:
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


class RecordLog:
    """The files of records at an address, and what this machine's index has of them."""

    def __init__(self, address: str, database: sqlite3.Connection) -> None:
        self._address, self._database = address, database
        self._folder = remote_folder(address) / "records"
        self._written = time.monotonic()
        database.execute("CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY)")
        database.execute("CREATE TABLE IF NOT EXISTS unsent (key TEXT PRIMARY KEY)")

    def read(self) -> None:
        """Adds to the index the records of files that it does not have."""
        have = {name for (name,) in self._database.execute("SELECT name FROM files")}
        with remote_errors(self._address):
            names = sorted(file.name for file in self._folder.iterdir()) if self._folder.exists() else []
            for name in names:
                if name in have:
                    continue
                rows = [json.loads(line) for line in (self._folder / name).read_text("utf-8").splitlines()]
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany(
                    f"INSERT INTO records ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) {ADD}", rows
                )
                self._database.execute("INSERT OR IGNORE INTO files VALUES (?)", (name,))
                self._database.execute("COMMIT")

    def note(self, keys: Sequence[str]) -> None:
        """Notes new records of the index, in the transaction that adds them."""
        self._database.executemany("INSERT OR IGNORE INTO unsent VALUES (?)", [(key,) for key in keys])

    def is_due(self) -> bool:
        """Returns whether it is time to write the new records."""
        return time.monotonic() - self._written > SECONDS_BETWEEN_FILES

    def write(self) -> None:
        """Writes the records that no file has yet, also those that a killed process left."""
        rows: list[Any] = self._database.execute(
            f"SELECT {COLUMNS} FROM records WHERE key IN (SELECT key FROM unsent)"
        ).fetchall()
        self._written = time.monotonic()
        if not rows:
            return
        name = f"{time.time_ns()}-{uuid.uuid4().hex}.jsonl"
        with remote_errors(self._address):
            content = "".join(json.dumps(row) + "\n" for row in rows)
            write_remotely(self._folder / name, content.encode())
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT OR IGNORE INTO files VALUES (?)", (name,))
        self._database.executemany("DELETE FROM unsent WHERE key = ?", [(row[0],) for row in rows])
        self._database.execute("COMMIT")
