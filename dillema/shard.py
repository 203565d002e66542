"""A shard: one of several parts of the sources of a run, which are processed anywhere and joined later."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from .fields import Constraint

Source = TypeVar("Source")


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of the sources; the parts are numbered from 0."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Returns the shard that a text such as "0/8" names; raises a ValueError for any other text."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or int(match[1]) >= int(match[2]):
            raise ValueError(f"not a shard: {text!r}")
        return cls(int(match[1]), int(match[2]))

    def choose(self, sources: Sequence[Source]) -> list[Source]:
        """Returns the sources of this shard: every `count`th, so that the shards have equal sizes."""
        return list(sources[self.number :: self.count])

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def _is_shard(text: str) -> bool:
    try:
        Shard.parse(text)
    except ValueError:
        return False
    return True


ShardName = Annotated[str, Constraint("such as 0/8, the first of eight shards, to 7/8, the last", _is_shard)]
