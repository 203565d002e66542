"""How a step is mapped over its items."""

from .batch import in_threads, run_batch

__all__ = ["in_threads", "run_batch"]
