"""Finds the code of a user's models, because their predictions depend on it."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any


def find_code_file(block: Mapping[str, Any]) -> str | None:
    """Returns the file that defines the `_target_` of a block; None if there is none."""
    spec = find_spec(block["_target_"].rpartition(".")[0])
    return spec.origin if spec else None
