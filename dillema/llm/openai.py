"""Language models behind OpenAI-compatible servers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..backend import Message
from ..server import Server


@dataclass
class OpenAILanguageModel(Server):
    """Asks a server for JSON that fits a schema.

    Servers do not always follow the schema, so the caller must check the reply.

    Attributes:
        response_format: The form in which the server takes the schema: json_schema (llama.cpp, vLLM, Ollama,
            LM Studio, OpenAI) or json_object, the older form (the server of llama-cpp-python).
    """

    response_format: Literal["json_schema", "json_object"] = "json_schema"

    group: ClassVar[str] = "llm"

    def load(self, turns: Sequence[list[Message]] = ()) -> None:
        """Opens connections; see `Server.connect`."""
        self.connect()

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns the server's reply; see `Server.complete`."""
        return self.complete(messages, seed, response_format=self._format(schema))

    def _format(self, schema: dict[str, Any]) -> dict[str, Any]:
        if self.response_format == "json_object":
            return {"type": "json_object", "schema": schema}
        # OpenAI refuses optional properties in its strict mode
        strict = schema["required"] == list(schema["properties"])
        return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": strict}}
