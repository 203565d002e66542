"""Chat models in GGUF files, run in this process by llama.cpp."""

import json
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from .. import hub
from ..backend import Message
from ..errors import ItemError, UserError
from ..fields import BatchSize, Constraint, Positive, Temperature, TopP, Transient, Weights
from .transformers import ALTERNATIVE

log = logging.getLogger(__name__)

_LOG = threading.Lock()  # llama.cpp has one log for all contexts
GGML_LOG_LEVEL_ERROR = 4  # of ggml.h; llama-cpp-python names the levels of an older version
NO_GPU = (
    "llm.gpu_layers=%s has no effect: this llama-cpp-python was built for the CPU alone. For CUDA: "
    "CMAKE_ARGS=-DGGML_CUDA=on pip install --force-reinstall --no-cache-dir llama-cpp-python"
)
CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
TRIAL = """
import os, sys
from llama_cpp import llama_cpp
parameters = llama_cpp.llama_model_default_params()
parameters.n_gpu_layers, parameters.use_extra_bufts = 0, False
model = llama_cpp.llama_model_load_from_file(os.fsencode(sys.argv[1]), parameters)
context = model and llama_cpp.llama_init_from_model(model, llama_cpp.llama_context_default_params())
if context:
    text = "".join(map(chr, range(1, 0x800))).encode()
    tokens = (llama_cpp.llama_token * len(text))()
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    llama_cpp.llama_tokenize(vocabulary, text, len(text), tokens, len(tokens), True, True)
    llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, 1))
"""
"""Opens a file, splits a text of many characters into tokens, and lets the model read one, on the CPU."""


@dataclass
class LlamaCpp:
    """Runs a GGUF file. A grammar made from the schema controls the sampling, so that every reply fits it.

    Attributes:
        model: The file's path, or <owner>/<repository>/<file> on the hub; its own chat template is used.
        context: The number of tokens of a prompt and its reply.
        temperature: The sampling temperature; 0 takes the most likely token.
        top_p: The share of the probability to sample from.
        gpu_layers: The number of layers on the GPU; -1: all.
        threads: The number of CPU cores that a question uses; None: the physical cores that are idle, shared
            by the questions.
        batch_size: The number of questions that are answered at the same time, each by a context of its own,
            which computes what it would compute alone. Each takes the memory of a cache, on a GPU that of the
            weights, too.
    """

    model: Weights[str]
    context: Positive = 2048
    temperature: Temperature = 0.2
    top_p: TopP = 0.95
    gpu_layers: Transient[Annotated[int, Constraint("of at least -1", lambda value: value >= -1)]] = 0
    threads: Transient[Positive | None] = None
    batch_size: BatchSize = 1

    version: ClassVar[int] = 1

    def load(self, turns: Sequence[list[Message]] = ()) -> None:
        """Loads the file and reads the turns that questions will follow.

        Raises a UserError if the file is missing, is no GGUF file or does not fit into the memory.
        """
        file = hub.file(self.model, ALTERNATIVE)
        with file.open("rb") as content:
            if content.read(4) != b"GGUF":
                raise UserError(
                    f"llm.model: {file.absolute()} is no GGUF file. "
                    "Older formats (GGML) and safetensors must be converted to GGUF first"
                )
        _try_in_another_process(file)
        contexts = [_Context(self.open(file)) for _ in range(self.batch_size)]
        self._vocabulary = contexts[0].llama._model.vocab
        self._idle: queue.Queue[_Context] = queue.Queue()
        try:
            for context in contexts:
                for beginning in turns:
                    context.find_prefix(beginning)
                self._idle.put(context)
        except ValueError as error:
            message = f"llm.context: the prompt alone does not fit in {self.context} tokens: {error}"
            raise UserError(message) from error
        except RuntimeError as error:
            raise UserError(
                f"llm.model: {file.absolute()} can be opened, but not computed with ({error}). "
                "Is it damaged? Fetch it again"
            ) from error

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns JSON that fits a schema; raises an ItemError when prompt and reply exceed the context."""
        grammar = self._compile_grammar(schema)
        context = self._idle.get()
        try:
            context.rewind(context.find_prefix(messages[:-1]))
            reply = context.llama.create_chat_completion(
                messages,
                temperature=self.temperature,
                top_p=self.top_p,
                seed=seed,
                max_tokens=None,
                grammar=grammar,
            )["choices"][0]
        except ValueError as error:
            if not re.search("exceed context window", str(error)):
                raise
            message = f"the prompt is too long: {error}. Set llm.context to a larger number"
            raise ItemError(message) from error
        finally:
            self._idle.put(context)
        if reply["finish_reason"] == "length":
            message = "the reply is too long: set llm.context to a larger number"
            raise ItemError(message, reply["message"]["content"])
        return str(reply["message"]["content"])

    def _compile_grammar(self, schema: dict[str, Any]) -> Any:
        """Returns the grammar of a schema.

        Raises an ItemError for one that llama.cpp cannot read: it would end the process at its first use.
        """
        import llama_cpp
        from llama_cpp.llama_grammar import LlamaGrammar

        grammar = LlamaGrammar.from_json_schema(json.dumps(schema))
        text, root = grammar._grammar.encode(), grammar._root.encode()
        with _LOG, _errors_of_llama_cpp() as errors:
            sampler = llama_cpp.llama_sampler_init_grammar(self._vocabulary, text, root)
        if not sampler:
            reason = " ".join("".join(errors).split())[:500]
            raise ItemError(f"llama.cpp cannot read the grammar of the reply ({reason})", json.dumps(schema))
        llama_cpp.llama_sampler_free(sampler)
        return grammar

    def open(self, file: Path) -> Any:
        """Returns the model; raises a UserError with llama.cpp's own reason."""
        import llama_cpp

        if self.gpu_layers and not llama_cpp.llama_supports_gpu_offload():
            log.warning(NO_GPU, self.gpu_layers)
        threads = self.threads or max(1, idle_cores() // self.batch_size)
        try:
            with _errors_of_llama_cpp() as errors, _without_amx():
                return llama_cpp.Llama(
                    str(file),
                    n_ctx=self.context,
                    n_gpu_layers=self.gpu_layers,
                    n_threads=threads,
                    n_threads_batch=threads,
                    verbose=False,
                )
        except (ValueError, MemoryError) as error:
            reason = " ".join("".join(errors).split()) or str(error)
            if isinstance(error, MemoryError) or "alloc" in reason:
                raise UserError(
                    f"The memory does not suffice for {file.name} with llm.context={self.context}: {reason}. "
                    "Set llm.context or llm.gpu_layers to a smaller number, or take a smaller file"
                ) from error
            raise UserError(
                f"llm.model: llama.cpp cannot load {file.absolute()}: {reason}. "
                "Is it damaged, or too new for llama-cpp-python?"
            ) from error


class _Context:
    """A model in memory with what it has read; it answers one question at a time."""

    def __init__(self, llama: Any) -> None:
        self.llama = llama
        self._prefixes: dict[str, _Prefix] = {}
        self._current: _Prefix | None = None

    def find_prefix(self, turns: list[Message]) -> "_Prefix":
        """Returns what the model has read after the turns before a question; reads them the first time."""
        key = json.dumps(turns)
        if key not in self._prefixes:
            self.llama.reset()
            tokens = self._read([*turns, Message(role="user", content="")])
            state = self.llama.save_state()
            other_tokens = self._read([*turns, Message(role="user", content="a")])
            shortest = min(len(tokens), len(other_tokens))
            is_shared = tokens[:shortest] == other_tokens[:shortest]
            length = shortest if is_shared.all() else int(is_shared.argmin())
            self._current = self._prefixes[key] = _Prefix(tokens[:length], state)
        return self._prefixes[key]

    def _read(self, messages: list[Message]) -> np.ndarray:
        self.llama.create_chat_completion(messages, max_tokens=1)
        return self.llama.input_ids[: self.llama.n_tokens].copy()

    def rewind(self, prefix: "_Prefix") -> None:
        """Brings the model back to the end of a prefix.

        Earlier questions must not change a single bit of a reply. llama.cpp reuses the common part with the
        last prompt, and other batches of a prompt round differently, so every question starts at the end of
        the prefix.
        """
        length = len(prefix.tokens)
        if prefix is not self._current or (self.llama.input_ids[:length] != prefix.tokens).any():
            self.llama.load_state(prefix.state)  # copies far more than the prefix, in 50 ms
            self._current = prefix
        self.llama.n_tokens = length


def _try_in_another_process(file: Path) -> None:
    """Raises a UserError for a file at which llama.cpp ends its process, as it does for some damaged ones."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "GGML_NO_BACKTRACE": "1"}
    command = [sys.executable, "-c", TRIAL, str(file)]
    trial = subprocess.run(command, env=environment, capture_output=True, check=False)
    if -trial.returncode in CRASHES:
        reason = re.findall("ASSERT.*", trial.stderr.decode(errors="replace"))
        words = ", ".join([signal.Signals(-trial.returncode).name, *reason[:1]])[:500]
        raise UserError(
            f"llm.model: llama.cpp crashes on {file.absolute()} ({words}). Is it damaged? Fetch it again"
        )


@dataclass(frozen=True)
class _Prefix:
    """The tokens that all questions after the same turns begin with, and llama.cpp's state after them."""

    tokens: np.ndarray
    state: Any


def idle_cores() -> int:
    """Returns the number of idle physical cores that this process may use, at least 1.

    The threads of llama.cpp wait for each other at every layer, so more threads than idle cores are slower.
    """
    import psutil  # type: ignore[import-untyped]

    allowed = len(psutil.Process().cpu_affinity() or [0])
    physical = psutil.cpu_count(logical=False) or 1
    busy = psutil.cpu_percent(interval=0.2) / 100 * (psutil.cpu_count() or 1)
    return max(1, min(allowed, physical, allowed - round(busy)))


@contextmanager
def _without_amx() -> Iterator[None]:
    """Prevents llama.cpp from using its AMX kernels while a model is loaded, on processors with AMX.

    With the weights of SmolLM2 (Q4_1) they cause a segmentation fault (seen with llama-cpp-python 0.3.36),
    and `Llama` has no argument for the setting.
    """
    from llama_cpp import llama_cpp

    cpu_info = Path("/proc/cpuinfo")
    if not cpu_info.exists() or "amx_int8" not in cpu_info.read_text():
        yield
        return
    default_params = llama_cpp.llama_model_default_params

    def params_without_extra_buffers() -> Any:
        params = default_params()
        params.use_extra_bufts = False
        return params

    llama_cpp.llama_model_default_params = params_without_extra_buffers
    try:
        yield
    finally:
        llama_cpp.llama_model_default_params = default_params


@contextmanager
def _errors_of_llama_cpp() -> Iterator[list[str]]:
    """Yields a list that collects the errors of llama.cpp, which it would otherwise print."""
    import ctypes

    import llama_cpp
    from llama_cpp import _logger

    errors: list[str] = []

    def collect(level: int, text: bytes, user_data: Any) -> None:
        if level == GGML_LOG_LEVEL_ERROR:
            errors.append(text.decode(errors="replace"))

    callback = llama_cpp.llama_log_callback(collect)  # must exist as long as llama.cpp may call it
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield errors
    finally:
        llama_cpp.llama_log_set(_logger.llama_log_callback, ctypes.c_void_p(0))
