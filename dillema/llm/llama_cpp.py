"""Chat models in GGUF files, run in this process by llama.cpp."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import hub
from ..errors import ItemError, UserError
from . import Message


@dataclass
class LlamaCpp:
    """Asks a GGUF file. A grammar made from the schema rules the sampling, so that a reply cannot be malformed.

    `model` is the file's path, or <owner>/<repository>/<file> on the hub; its own chat template is used. `context` is the
    number of tokens that a prompt and its reply may have together, `gpu_layers` how many layers a GPU takes (-1: all),
    `threads` how many cores are used (null: as llama.cpp chooses).
    """

    model: str
    context: int = 2048
    temperature: float = 0.2
    gpu_layers: int = 0
    threads: int | None = None

    batch_size: ClassVar[int] = 1
    version: ClassVar[int] = 1
    transient: ClassVar[tuple[str, ...]] = ("gpu_layers", "threads")
    weights: ClassVar[tuple[str, ...]] = ("model",)

    def load(self, turns: Sequence[list[Message]] = ()) -> None:
        """Loads the file and reads the turns that questions will follow; raises a UserError when the file is missing or no GGUF file."""
        file = hub.file(self.model, "llm=smollm2")
        with file.open("rb") as start:
            if start.read(4) != b"GGUF":
                raise UserError(f"llm.model: {file.absolute()} is no GGUF file. Older formats (GGML) and safetensors must be converted to GGUF first")
        from llama_cpp import Llama

        try:
            self._llama: Any = Llama(
                str(file), n_ctx=self.context, n_gpu_layers=self.gpu_layers, n_threads=self.threads, n_threads_batch=self.threads, verbose=False
            )
        except ValueError as error:
            raise UserError(f"llm.model: llama.cpp cannot load {file.absolute()}: {error}. Is it damaged, or too new for llama-cpp-python?") from error
        self._states: dict[str, Any] = {}
        try:
            for beginning in turns:
                self._state(beginning)
        except ValueError as error:
            raise UserError(f"llm.context: the prompt alone does not fit in {self.context} tokens: {error}") from error

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns JSON that fits a schema; raises an ItemError when prompt and reply do not fit in the context."""
        from llama_cpp.llama_grammar import LlamaGrammar

        try:
            self._llama.load_state(self._state(messages[:-1]))
            reply = self._llama.create_chat_completion(
                messages, temperature=self.temperature, seed=seed, max_tokens=None, grammar=LlamaGrammar.from_json_schema(json.dumps(schema))
            )["choices"][0]
        except ValueError as error:
            if not re.search("exceed context window", str(error)):
                raise
            raise ItemError(f"the prompt is too long: {error}. Set llm.context to a larger number") from error
        if reply["finish_reason"] == "length":
            raise ItemError("the reply is too long: set llm.context to a larger number", reply["message"]["content"])
        return str(reply["message"]["content"])

    def _state(self, turns: list[Message]) -> Any:
        """Returns the state after the turns before a question.

        What was asked before must not change a bit: llama.cpp keeps what it can of the last prompt, and a prompt cut in
        other batches gives other roundings. So all questions go on from the same state.
        """
        key = json.dumps(turns)
        if key not in self._states:
            self._llama.reset()
            self._llama.create_chat_completion([*turns, Message(role="user", content="")], max_tokens=1)
            self._states[key] = self._llama.save_state()
        return self._states[key]
