"""Computes the items of a batch one by one, so that no result depends on the rest of the batch."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each_alone(
    work: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    is_on_cpu: bool,
    thread_safe: bool = True,
) -> list[Result]:
    """Returns one result an item; a network on a CPU is given one item at a time.

    The kernels of a CPU, and with them the rounding, depend on the size of a batch. On a GPU, which needs
    batches to be fast, `work` is given all items, and the last bits may depend on the batch.

    Args:
        work: Returns one result an item.
        items: The batch.
        is_on_cpu: Whether the network is on a CPU.
        thread_safe: Whether `work` may be called by several threads at once; see `side_by_side`. Otherwise
            one item follows the other, each on all cores.
    """
    if not is_on_cpu:
        return list(work(items))
    parts = side_by_side(work, [[item] for item in items]) if thread_safe else [work([i]) for i in items]
    return [result for part in parts for result in part]


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Returns the result of each item; works on an item on each core.

    A result then does not depend on the number of cores either, which changes the rounding of a joint
    computation. Cores that share one computation also wait for each other, which takes long when other
    processes use some of them.
    """
    import torch

    cores = torch.get_num_threads()

    def run(item: Item) -> Result:
        torch.set_num_threads(1)  # holds for this thread
        return work(item)

    try:
        if min(cores, len(items)) <= 1:
            return [run(item) for item in items]
        with ThreadPoolExecutor(min(cores, len(items))) as threads:
            return list(threads.map(run, items))
    finally:
        torch.set_num_threads(cores)  # also of threads that are started later
