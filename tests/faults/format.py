"""An input of the product that can be damaged, and how to tell whether it was read rightly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .damage import Damage


class Accepted(str):
    """A result that is right whatever the damage, such as a checked configuration; it says why."""


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        file: The file that is damaged, relative to the folder of the input.
        make: Writes the whole input into a folder.
        read: Reads the input as a user's command does, and returns what was read.
        damages: The damages by name.
        reference: Reads the damaged file by other means, for formats without checksums, in which a damage may
            make another valid file; raises an exception for a file that it cannot read. None: only what was
            read before the damage is right.
    """

    name: str
    file: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    damages: Mapping[str, Damage]
    reference: Callable[[Path], Any] | None = None


def is_equal(value: Any, other: Any) -> bool:
    """Returns whether two values are equal; arrays may differ by the rounding of two decoders."""
    if isinstance(value, np.ndarray) and isinstance(other, np.ndarray):
        if value.shape != other.shape:
            return False
        if value.ndim == 3:
            return bool(np.abs(value.astype(int) - other).mean() < 2)
        return np.array_equal(value, other)
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return value.keys() == other.keys() and all(is_equal(value[name], other[name]) for name in value)
    return bool(value == other)
