"""An edit strategy outside the package."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dillema.backend import Vary
from dillema.types import Expression, Variant


@dataclass
class InTurn:
    """Changes one attribute to each of its values, in the order of the configuration."""

    attribute: str

    version: ClassVar[int] = 1

    def plan(
        self, sample_id: str, expressions: Mapping[str, Expression], vary: Vary, count: int, seed: int
    ) -> list[Variant]:
        """Returns up to `count` variants of one sample."""
        if self.attribute not in expressions:
            return []
        old = expressions[self.attribute].value
        values = [value for value in vary[self.attribute] if value != old]
        return [Variant({self.attribute: (value,)}) for value in values[:count]]
