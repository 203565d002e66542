"""Several conditionings at once."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..backend import Conditioning
from ..errors import UserError


@dataclass
class Several:
    """Conditionings that are used together, each with its own weight.

    Attributes:
        parts: The conditionings, by any name; none of them for a generator that takes no control image.
    """

    parts: dict[str, Any]

    def __post_init__(self) -> None:
        """Refuses two conditionings of one kind: control images are told apart by it."""
        counts = Counter(part.name for part in self.parts.values())
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise UserError(f"conditioning.parts holds {repeated[0]} more than once")


def conditionings_by_name(conditioning: Any) -> dict[str, Conditioning]:
    """Returns the conditionings that an option of the group stands for: one, or the parts of `Several`."""
    parts = conditioning.parts.values() if isinstance(conditioning, Several) else [conditioning]
    return {part.name: part for part in parts}
