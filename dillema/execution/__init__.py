"""Executors: they run a step on batches of items."""

from .batch import in_threads, overlap, run_batch

__all__ = ["in_threads", "overlap", "run_batch"]
