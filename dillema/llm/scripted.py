"""Canned replies, for tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from . import Message


@dataclass
class Scripted:
    """Gives its replies one after the other, whether or not they fit, and remembers what it was asked."""

    replies: list[str]
    batch_size: ClassVar[int] = 1
    asked: list[tuple[list[Message], dict[str, Any]]] = field(default_factory=list, init=False)

    def load(self, turns: Sequence[list[Message]] = ()) -> None:
        """Does nothing."""

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns the next reply."""
        self.asked.append((messages, schema))
        return self.replies[len(self.asked) - 1]
