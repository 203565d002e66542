"""Data sets, and the checks of their samples before a run."""

from .check import check_masks, check_sample, describe
from .selection import split, subset

__all__ = ["check_masks", "check_sample", "describe", "split", "subset"]
