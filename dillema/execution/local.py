"""One batch after the other, in this process."""

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import Work, attempt

log = logging.getLogger(__name__)


@dataclass
class Local:
    """Runs the stages here. `max_failures` items of a run may fail before it stops; those that failed before are tried again with `retry_failed`."""

    max_failures: int = 50
    retry_failed: bool = False

    _backend: Any = field(default=None, init=False, repr=False)
    _loaded: Any = field(default=None, init=False, repr=False)

    def load(self, backend: Any) -> None:
        """Loads a back-end, if there is one and it is not loaded; the one before it is let go, so only one is in memory at a time."""
        if backend is None or backend is self._backend:
            return
        self._backend = self._loaded = None
        if type(backend).weights:
            log.info("loading %s", type(backend).__name__)
        loaded = copy.deepcopy(backend)
        loaded.load()
        self._backend, self._loaded = backend, loaded

    def map(self, work: Work, backend: Any, batches: list[list[Any]]) -> Iterator[list[Any]]:
        """Yields, for each batch in turn, one result or exception an item."""
        self.load(backend)
        for batch in batches:
            yield attempt(work, self._loaded, batch)
