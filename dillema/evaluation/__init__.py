"""Runs models under test on images."""

from .module import Item, Records, evaluate, interrupts

__all__ = ["Item", "Records", "evaluate", "interrupts"]
