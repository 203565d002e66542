"""What the machine can do: the rates that no stage can exceed, and a description."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

SIDES = {"cpu": 1024, "cuda": 8192}  # of the multiplied matrices
BYTES = 2**28  # that are copied
TRIES = 3
LIBRARIES = ("torch", "transformers", "diffusers", "llama-cpp-python")


@dataclass(frozen=True)
class Rates:
    """The highest rates of a device: operations of matrix products, and bytes of memory, a second."""

    operations: float
    bytes: float


def measure_rates(device: str, dtype: torch.dtype) -> Rates:
    """Returns the best of a few tries; a multiplication and an addition are two operations."""
    kind = torch.device(device).type
    side = SIDES.get(kind, SIDES["cpu"])
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.ones(BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = _shortest(lambda: torch.mm(left, right), device)
    copy = _shortest(lambda: target.copy_(source), device)
    return Rates(2 * side**3 / product, 2 * BYTES / copy)  # a copy reads and writes


def synchronise(device: str) -> None:
    """Waits for the work of a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def describe_machine() -> dict[str, Any]:
    """Returns the parts of the machine and the versions of the libraries."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "memory_gb": round(memory),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _shortest(work: Callable[[], Any], device: str) -> float:
    """Returns the seconds of the fastest of a few calls; the first is not counted."""
    work()
    seconds = []
    for _ in range(TRIES):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
