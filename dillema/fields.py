"""Marks and constraints that the type hint of a setting can carry."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from .errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Mark:
    """A property of a field of a back-end."""

    name: str


@dataclass(frozen=True)
class Constraint:
    """A condition on a value: `holds` tests it; `description` completes "must be a whole number ..."."""

    description: str
    holds: Callable[[Any], bool]


TRANSIENT = Mark("transient")
WEIGHTS = Mark("weights")

Transient = Annotated[T, TRANSIENT]
"""A field that changes no result, such as a batch size or a device. Records do not depend on its value."""

Weights = Annotated[T, WEIGHTS]
"""A field that names a file, a folder or a hub id.

Records depend on the content of the file or folder, not on its path.
"""

Positive = Annotated[int, Constraint("of at least 1", lambda value: value >= 1)]
NotNegative = Annotated[int, Constraint("of at least 0", lambda value: value >= 0)]
Port = Annotated[int, Constraint("from 0 to 65535", lambda value: 0 <= value <= 65535)]
AboveZero = Annotated[float, Constraint("above 0", lambda value: value > 0)]
Share = Annotated[float, Constraint("from 0 to 1", lambda value: 0 <= value <= 1)]
Cosine = Annotated[float, Constraint("from -1 to 1", lambda value: -1 <= value <= 1)]
Weight = Annotated[float, Constraint("of at least 0", lambda value: value >= 0)]
Temperature = Annotated[float, Constraint("of at least 0", lambda value: value >= 0)]
TopP = Annotated[float, Constraint("above 0 and at most 1", lambda value: 0 < value <= 1)]
FileName = Annotated[str, Constraint("that is a path inside of its folder", lambda value: is_inside(value))]
BatchSize = Annotated[int, TRANSIENT, Constraint("of at least 1", lambda value: value >= 1)]


def is_inside(name: str) -> bool:
    """Returns whether a relative path stays in its folder."""
    if "/" not in name:
        return name not in ("", ".", "..") and "\0" not in name
    parts = name.split("/")  # a path of pathlib takes ten times as long, and a run has many names
    is_relative = parts[0] != "" and ".." not in parts and "\0" not in name
    return is_relative and any(part not in ("", ".") for part in parts)


def marked_fields(backend: type, mark: Mark) -> tuple[str, ...]:
    """Returns the names of the fields of a dataclass that have a mark.

    Raises a UserError when the type hints of the class cannot be read.
    """
    if not dataclasses.is_dataclass(backend):  # a class of the user's, such as a network
        return ()
    return tuple(name for name, hint in field_hints(backend).items() if mark in _metadata(hint))


def field_hints(backend: type) -> dict[str, Any]:
    """Returns the type hints of a dataclass's fields, with their annotations, in the order of the fields.

    Raises a UserError when they cannot be read.
    """
    try:
        hints = get_type_hints(backend, include_extras=True)
    except NameError as error:
        raise UserError(
            f"{backend.__module__}.{backend.__qualname__}: its type hints cannot be read ({error}). "
            "Import what they name outside of `if TYPE_CHECKING`"
        ) from error
    return {field.name: hints[field.name] for field in dataclasses.fields(backend)}


def _metadata(hint: Any) -> Iterator[Any]:
    """Yields the annotations of a hint and of its parts."""
    yield from getattr(hint, "__metadata__", ())
    for part in get_args(hint):
        if hasattr(part, "__metadata__"):
            yield from _metadata(part)
