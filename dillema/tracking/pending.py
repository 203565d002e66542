"""The unsent data of a run, kept in its run folder until MLflow has it."""

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..files import write_atomically
from ..passwords import find_address, hide_passwords

UNSENT = "unsent"
FIGURES = "figures.json"
"""The name of results.json in MLflow."""


@dataclass
class PendingRun:
    """The unsent data of a run, besides the tables, images and files in the same folder.

    Attributes:
        uri: The address of MLflow.
        artifacts: Where MLflow keeps the files of runs.
        start: The start in milliseconds, like `end`.
        sweep: The folder of the sweep that the run belongs to.
        dataset: The fields of MLflow's entity of the generated set.
    """

    uri: str
    artifacts: str
    experiment: str
    name: str
    start: int
    params: dict[str, str]
    tags: dict[str, str]
    sweep: str | None
    status: str = "RUNNING"
    end: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    dataset: dict[str, str] = field(default_factory=dict)

    @property
    def addresses(self) -> tuple[str, str]:
        """Returns the addresses that may hold passwords."""
        return self.uri, self.artifacts

    @classmethod
    def read(cls, folder: Path, addresses: Iterable[str] = ()) -> "PendingRun":
        """Returns the unsent data of a run folder, with the passwords that stand in some addresses."""
        values = json.loads((folder / UNSENT / "run.json").read_text(encoding="utf-8"))
        hidden = {name: find_address(values[name], addresses) for name in ("uri", "artifacts")}
        return cls(**values | hidden)

    def write(self, folder: Path) -> None:
        """Writes the unsent data to a run folder, without passwords."""
        hidden = {name: hide_passwords(getattr(self, name)) for name in ("uri", "artifacts")}
        write_atomically(folder / UNSENT / "run.json", json.dumps(asdict(self) | hidden))


def now_in_milliseconds() -> int:
    """Returns the time in MLflow's unit, milliseconds."""
    return int(time.time() * 1000)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Locks a folder against other processes during this block."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
