"""Executors: they run a step on batches of items."""

from .alone import each_alone, side_by_side
from .batch import in_threads, overlap, run_alone, run_batch

__all__ = ["each_alone", "in_threads", "overlap", "run_alone", "run_batch", "side_by_side"]
