"""Several control images at once."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..errors import UserError


@dataclass
class Several:
    """Conditionings that are used together, each with its own weight; none of them, for a generator that needs no control image."""

    parts: dict[str, Any]

    def __post_init__(self) -> None:
        """Refuses two conditionings of one kind: control images are told apart by it."""
        if twice := [name for name, count in Counter(part.name for part in self.parts.values()).items() if count > 1]:
            raise UserError(f"conditioning.parts holds {twice[0]} more than once")


def parts(conditioning: Any) -> dict[str, Any]:
    """Returns the conditionings that make up one, by name."""
    return {part.name: part for part in (conditioning.parts.values() if isinstance(conditioning, Several) else [conditioning])}
