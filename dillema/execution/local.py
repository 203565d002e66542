"""Runs one batch after the other in this process."""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..backend import Work
from ..fields import WEIGHTS, Positive, Transient, marked_fields
from .batch import load, release_memory, run_batch

log = logging.getLogger(__name__)


@dataclass
class Local:
    """Runs the steps in this process; one back-end is in memory at a time.

    Attributes:
        devices: On how many GPUs (or processes, on a machine without GPUs) a model under test runs.
    """

    devices: Transient[Positive] = 1

    blocks: ClassVar[int] = 1
    block_size: ClassVar[int] = 2_000  # bounds the memory of a run of any size: one block takes some 200 MB

    _configured: Any = field(default=None, init=False, repr=False)
    _loaded: Any = field(default=None, init=False, repr=False)

    def load(self, backend: Any) -> None:
        """Loads a back-end, unless it is loaded already."""
        if backend is None or backend is self._configured:
            return
        self.unload()
        if marked_fields(type(backend), WEIGHTS):
            log.info("loading %s", describe(backend))
        # a copy is loaded, so that the configured back-end stays small and its settings stay as given
        loaded = copy.deepcopy(backend)
        load(loaded)
        self._configured, self._loaded = backend, loaded

    def unload(self) -> None:
        """Frees the memory of the loaded back-end."""
        if self._loaded is None:
            return
        self._configured = self._loaded = None
        release_memory()

    def map(self, step: Work, batches: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
        """Yields the results of each batch, in order."""
        self.load(step.backend)
        loaded = self._loaded if step.backend is not None else None
        for batch in batches:
            yield run_batch(lambda items: step.work(loaded, items), batch)

    def stop(self) -> None:
        """Does nothing: all work is done in the thread that waits for it."""


def describe(backend: Any) -> str:
    """Returns the setting that a back-end comes from, as far as it can be told: "model=resnet18", "llm"."""
    package, _, rest = type(backend).__module__.partition(".")
    group = "llm" if hasattr(backend, "llm") else rest.partition(".")[0]
    if package != "dillema" or not group:
        return type(backend).__name__
    name = getattr(backend, "name", "")
    return f"{group}={name}" if name and group in ("model", "validity") else group
