"""A store with finished work, over which the same run is started again."""

import hashlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from tests.backends import Noise, run_pipeline

from ..damage import BYTES, PATHS, Damage
from ..format import Format


def _write(folder: Path) -> None:
    run_pipeline(folder / "first", folder / "store", dataset=Noise(count=3), counterfactuals=1)
    shutil.rmtree(folder / "first")
    with sqlite3.connect(folder / "store" / "records.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all records are in records.db
    images = sorted((folder / "store" / "images").rglob("*.png"))
    for path in images:
        path.chmod(0o644)
    images[0].rename(folder / "image")  # a damage is of a file with a constant name
    images[0].symlink_to(folder / "image")


def _read(folder: Path) -> Any:
    """Returns the texts and the hashes of the images of a run that finds its work in the store."""
    run, _ = run_pipeline(folder / "again", folder / "store", dataset=Noise(count=3), counterfactuals=1)
    return {
        image.id: (
            image.counterfactual.text,
            hashlib.sha256(image.path.read_bytes()).hexdigest(),
            image.verdict.scores,
        )
        for image in run.generated()
    }


def _statement(text: str) -> Damage:
    def apply(path: Path, rng: Any) -> None:
        with sqlite3.connect(path) as database:
            database.execute(text)

    return apply


TABLES = {
    "another table": _statement("ALTER TABLE records RENAME TO others"),
    "a column less": _statement("ALTER TABLE records DROP COLUMN seconds"),
    "a column more": _statement("ALTER TABLE records ADD COLUMN extra TEXT"),
    "a newer version": _statement("PRAGMA user_version = 99"),
    "no version": _statement("PRAGMA user_version = 0"),
    "values that are no JSON": _statement("UPDATE records SET value = 'nothing'"),
    "values of another type": _statement("UPDATE records SET value = '[1, {}]'"),
    "no records": _statement("DELETE FROM records"),
}
FORMATS = [
    Format("store, database", "store/records.db", _write, _read, BYTES | PATHS | TABLES),
]
