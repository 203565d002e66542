"""How a stage is mapped over its items."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import UserError

Work = Callable[[Any, list[Any]], Sequence[Any]]
"""A stage's work: takes a loaded back-end and a batch, returns a result, or an exception in its place, for each item."""


def attempt(work: Work, backend: Any, batch: list[Any]) -> list[Any]:
    """Returns one result an item, or the exception that the item raises; a batch that fails is tried again item by item.

    A UserError and a lack of memory are nobody's item: they are raised.
    """
    try:
        return list(work(backend, batch))
    except (UserError, MemoryError):
        raise
    except Exception as error:
        failure = error
    return [failure] if len(batch) == 1 else [result for item in batch for result in attempt(work, backend, [item])]


def together(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Returns one result an item, or the exception that the item raises, as `attempt` does; all are under way at once, in threads."""

    def one(item: Any) -> Any:
        return attempt(lambda _, batch: [work(batch[0])], None, [item])[0]

    if len(items) == 1:
        return [one(items[0])]
    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(one, items))
