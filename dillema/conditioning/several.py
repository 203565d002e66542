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
        """Raises a UserError for two conditionings of one name, by which control images are identified."""
        counts = Counter(part.name for part in self.parts.values())
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise UserError(f"conditioning.parts holds {repeated[0]} more than once")


def conditionings_by_name(conditioning: Any) -> dict[str, Conditioning]:
    """Returns the conditionings of an option by name: the option itself, or the parts of `Several`."""
    parts = conditioning.parts.values() if isinstance(conditioning, Several) else [conditioning]
    return {part.name: part for part in parts}
