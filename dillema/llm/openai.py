"""Language models behind OpenAI-compatible servers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..server import Server
from . import Message


@dataclass
class OpenAILanguageModel(Server):
    """Asks a server for JSON that fits a schema; whether the reply does is for the one who asked to check, since servers fail to keep to it.

    `response_format` is the form in which the server wants the schema: json_schema (llama.cpp, vLLM, Ollama, LM Studio,
    OpenAI) or json_object, the older one (the server of llama-cpp-python).
    """

    response_format: Literal["json_schema", "json_object"] = "json_schema"

    group: ClassVar[str] = "llm"

    def load(self, turns: Sequence[list[Message]] = ()) -> None:
        """Opens connections; see `Server.connect`."""
        self.connect()

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns the server's reply; see `Server.complete`."""
        if self.response_format == "json_object":
            return self.complete(messages, seed, response_format={"type": "json_object", "schema": schema})
        strict = schema["required"] == list(schema["properties"])  # OpenAI's own refuses optional properties in the strict mode
        return self.complete(messages, seed, response_format={"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": strict}})
