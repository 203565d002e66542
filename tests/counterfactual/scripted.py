"""A language model whose replies are written in the test."""

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass
class Scripted:
    """Gives its replies one after the other and records what it was asked."""

    replies: list[str]
    questions: list[tuple[Any, Any]] = field(default_factory=list, init=False)

    version: ClassVar[int] = 1
    batch_size: ClassVar[int] = 1

    def load(self, turns=()):
        """Has nothing to load."""

    def ask(self, messages, schema, seed):
        """Returns the next reply."""
        self.questions.append((messages, schema))
        return self.replies[len(self.questions) - 1]
