"""Runs a batch, and tries smaller parts of it when it fails."""

import gc
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ..errors import UserError, machine_errors, shorten

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_batch(
    work: Callable[[Sequence[Item]], Sequence[Result]], batch: Sequence[Item]
) -> list[Result | Exception]:
    """Returns one result an item, or the exception that the item raises.

    A batch that fails is tried again item by item; a batch that does not fit the GPU's memory is halved.
    Raises errors that are not of one item: a UserError of the work, and a UserError when the disk is full,
    when the memory does not suffice for a single item, or when no server answers.
    """
    failure: Exception | None = None
    try:
        with machine_errors():
            results: list[Result | Exception] = list(work(batch))
        if len(results) != len(batch):
            raise ValueError(f"{len(results)} results for {len(batch)} items")
        return results
    except UserError:
        raise
    except Exception as error:
        failure = None if is_memory_error(error) else error
    # the exception has been deleted here, and with it the memory that its traceback holds
    if failure is None:
        return _run_halves(work, batch)
    if len(batch) == 1:
        if is_connection_error(failure):
            raise UserError(
                f"a connection is lost: {type(failure).__name__}: {shorten(str(failure), 500)}. "
                "Finished work is kept; repeat the command when the server answers"
            ) from failure
        return [failure]
    return [result for item in batch for result in run_batch(work, [item])]


def load(backend: Any) -> None:
    """Loads a back-end; raises a UserError when the memory does not suffice, or an error of the back-end."""
    gc.freeze()  # `release_memory` then searches only what is made from here on: a tenth of the time
    with machine_errors():
        try:
            backend.load()
        except Exception as error:
            if not is_memory_error(error):
                raise
            raise UserError(
                f"memory does not suffice to load {type(backend).__name__}: {shorten(str(error), 500)}. "
                "Finished work is kept. What helps: a smaller model, dtype=bfloat16 or float16, quantization "
                "or offload where the option has them, or other programs ended"
            ) from error


def is_memory_error(error: BaseException) -> bool:
    """Returns whether an exception says that the memory of the machine or of a GPU did not suffice."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # messages of PyTorch: of its CPU allocator on Windows, on Linux and macOS; of a GPU without room for a
    # context, and of GPUs that are not of CUDA; of cuBLAS and cuDNN
    messages = ("not enough memory", "can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(message in str(error) for message in messages)


def is_connection_error(error: BaseException) -> bool:
    """Returns whether an exception says that no server answers, which is no failure of one item.

    Clients have classes of their own: requests, httpx, aiohttp and openai name them so.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names.isdisjoint(
        ("ConnectionError", "ConnectError", "APIConnectionError", "ClientConnectionError")
    )


def release_memory() -> None:
    """Frees the memory of unreachable objects: first Python's reference cycles, then the GPU's cache."""
    gc.collect()
    gc.unfreeze()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def run_alone(work: Callable[[Item], Result], item: Item) -> Result | Exception:
    """Returns the result of one item, or the exception that it raises; raises what `run_batch` raises."""
    return run_batch(lambda batch: [work(batch[0])], [item])[0]


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result | Exception]:
    """Returns one result an item, or the exception that the item raises; all items run at once in threads."""
    if len(items) == 1:
        return [run_alone(work, items[0])]
    if not items:
        return []
    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(partial(run_alone, work), items))


def overlap(
    work: Callable[[Item], Result], items: Iterable[Item], count: int, stop: Callable[[], None]
) -> Iterator[Result]:
    """Yields the result of each item, in order; works on `count` items at the same time, in threads.

    `stop` is called when the work is given up, and must make the threads end.
    """
    if count == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(count) as threads:
        try:
            for item in items:
                waiting.append(threads.submit(work, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            stop()
            raise


def _run_halves(
    work: Callable[[Sequence[Item]], Sequence[Result]], batch: Sequence[Item]
) -> list[Result | Exception]:
    release_memory()
    if len(batch) == 1:
        raise UserError(
            "memory does not suffice for a single item. Finished work is kept. What helps: "
            "a smaller model or image (generator.width, generator.height), dtype=bfloat16 or float16, "
            "generator.offload=model, generator.slicing=true, generator.tiling=true, or other programs ended"
        )
    half = len(batch) // 2
    log.warning("memory does not suffice for %d items at a time: trying %d (a smaller batch_size helps)",
                len(batch), half)  # fmt: skip
    return run_batch(work, batch[:half]) + run_batch(work, batch[half:])
