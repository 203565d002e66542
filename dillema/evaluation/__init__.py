"""Runs models under test on images."""

from .module import Item, Records, evaluate

__all__ = ["Item", "Records", "evaluate"]
