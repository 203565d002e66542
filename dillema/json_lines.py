"""Reads files of JSON lines."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .config_check import describe, make_check
from .errors import UserError


def read_lines(file: Path, values: Mapping[str, Any] = MappingProxyType({})) -> Iterator[dict[str, Any]]:
    """Yields the mappings of a file of JSON lines; nothing where there is no file.

    Raises a UserError for a line that lacks one of `values`, or has one that does not fit its type.
    """
    if not file.exists() and not file.is_symlink():
        return
    if not file.is_file():
        raise UserError(f"{file} is no file")
    number = 1
    checks = {name: make_check(hint) for name, hint in values.items()}
    with file.open(encoding="utf-8-sig") as lines:
        try:
            for line in lines:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("it is no mapping")
                for name, check in checks.items():
                    if not check(row.get(name)):
                        must_be = describe(values[name])
                        raise ValueError(f"{name} must be {must_be}, not {row.get(name)!r:.60}")
                yield row
                number += 1
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}, line {number}, is damaged: {error}") from error
