"""Compares the time of each stage with the naive way, a bare loop of its library, and the machine's limit."""

from .machine import describe_machine
from .measuring import Measuring
from .table import write_results

__all__ = ["Measuring", "describe_machine", "write_results"]
