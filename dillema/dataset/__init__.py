"""Where the labelled samples come from, and what they are checked for before anything is made of them."""

from .check import check_masks, check_sample, describe
from .selection import split, subset

__all__ = ["check_masks", "check_sample", "describe", "split", "subset"]
