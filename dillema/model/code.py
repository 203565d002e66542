"""Finds the code of a user's own models: when it changes, so may their predictions."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any


def find_code_file(block: Mapping[str, Any]) -> str | None:
    """Returns the file in which the `_target_` of a block is defined, None where there is no such file."""
    spec = find_spec(block["_target_"].rpartition(".")[0])
    return spec.origin if spec else None
