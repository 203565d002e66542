"""Language models, which answer in JSON that fits a schema."""

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict


class Message(TypedDict):
    """One turn of a chat; `role` is system, user or assistant."""

    role: str
    content: str


class LanguageModel(Protocol):
    """What a stage asks of a language model."""

    @property
    def batch_size(self) -> int:
        """Returns how many questions may be asked at the same time, from as many threads."""
        ...

    def load(self, turns: Sequence[list[Message]] = ()) -> None:
        """Loads the weights, and reads the turns that questions will follow where that saves time."""
        ...

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns JSON that fits a JSON schema; the same question and seed give the same reply, whatever was asked before."""
        ...
