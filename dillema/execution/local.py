"""One batch after the other, in this process."""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..backend import Work
from ..fields import WEIGHTS, Positive, Transient, marked_fields
from .batch import release_memory, run_batch

log = logging.getLogger(__name__)


@dataclass
class Local:
    """Runs the steps here. One back-end is in memory at a time.

    Models under test run on `devices` side by side.
    """

    devices: Transient[Positive] = 1

    _configured: Any = field(default=None, init=False, repr=False)
    _loaded: Any = field(default=None, init=False, repr=False)

    def load(self, backend: Any) -> None:
        """Loads a back-end, unless it is the one that is loaded."""
        if backend is None or backend is self._configured:
            return
        self.unload()
        if marked_fields(type(backend), WEIGHTS):
            log.info("loading %s", type(backend).__name__)
        loaded = copy.deepcopy(
            backend
        )  # the configured one stays small, and what it says of its settings stays true
        loaded.load()
        self._configured, self._loaded = backend, loaded

    def unload(self) -> None:
        """Gives back the memory of the back-end that is loaded."""
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
