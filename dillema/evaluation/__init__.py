"""Models under test, run over images."""

from .module import Item, Records, evaluate

__all__ = ["Item", "Records", "evaluate"]
