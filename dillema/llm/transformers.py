"""Chat models of transformers, run in this process."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .. import hub
from ..backend import Message
from ..errors import ItemError, UserError
from ..fields import BatchSize, Positive, Temperature, TopP, Transient, Weights
from .gathering import Gatherer
from .sampling import NOISE, Sampler

ALTERNATIVE = "llm=smollm2"


@dataclass(frozen=True)
class Question:
    """What is asked: turns, the schema of the reply and a seed."""

    messages: list[Message]
    schema: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class Prefix:
    """The tokens that all questions after the same turns begin with, and the model's cache after them."""

    tokens: list[int] = field(default_factory=list)
    cache: Any = None

    def copy(self, rows: int) -> Any:
        """Returns a cache for a number of rows."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return cache


@dataclass
class TransformersLanguageModel:
    """Asks a model of transformers. XGrammar masks every token that would not fit the schema.

    Questions that threads ask at the same time are answered in one batch. A reply whose tokens could differ
    by rounding in another batch is computed again alone, so that the batch changes no reply (with quantized
    weights and in half precision: as far as the noise in `sampling.NOISE` covers the rounding). What the
    turns before the questions leave in the cache is computed once.
    XGrammar: Dong et al. 2024, arXiv 2411.15100.

    Attributes:
        model: A folder or a hub id.
        temperature: The sampling temperature; 0 takes the most likely token.
        top_p: The share of the probability to sample from.
        max_new_tokens: The longest reply.
        quantization: A quantization_config of transformers.
        batch_size: The number of questions in a batch.
    """

    model: Weights[str]
    temperature: Temperature = 0.2
    top_p: TopP = 0.95
    max_new_tokens: Positive = 256
    dtype: hub.DType = "auto"
    quantization: dict[str, Any] | None = None
    device: Transient[str] = "auto"
    batch_size: BatchSize = 8

    version: ClassVar[int] = 3

    def load(self, turns: Sequence[list[Message]] = ()) -> None:
        """Loads the model and its tokenizer.

        Raises a UserError when it is no chat model or XGrammar is not installed.
        """
        import transformers

        try:
            import xgrammar
        except ModuleNotFoundError as error:
            raise UserError(
                f"{type(self).__name__} needs XGrammar: pip install 'dillema[xgrammar]'. "
                f"{ALTERNATIVE} does not need it"
            ) from error
        self._tokenizer = hub.load(transformers.AutoTokenizer, self.model, ALTERNATIVE)
        if not self._tokenizer.chat_template:
            raise UserError(
                f"llm.model: {self.model} has no chat template, so it is no chat model; "
                "take the model of the same name that ends in -Instruct or -chat"
            )
        self._network = hub.network(
            transformers.AutoModelForCausalLM,
            self.model,
            ALTERNATIVE,
            self.device,
            self.dtype,
            self.quantization,
        )
        vocabulary = self._network.config.get_text_config().vocab_size
        tokens = xgrammar.TokenizerInfo.from_huggingface(self._tokenizer, vocab_size=vocabulary)
        self._compiler = xgrammar.GrammarCompiler(tokens)

        ends = self._network.generation_config.eos_token_id
        ends = self._tokenizer.eos_token_id if ends is None else ends
        self._end_tokens = [ends] if isinstance(ends, int) else list(ends or [])
        pads = (self._tokenizer.pad_token_id, *self._end_tokens, 0)
        self._pad = next(token for token in pads if token is not None)
        self._no_prefix = Prefix()
        self._prefixes: dict[str, Prefix] = {}
        self._gatherer = Gatherer(self._answer, self.batch_size)

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns JSON that fits a schema; raises an ItemError when it is longer than `max_new_tokens`."""
        return self._gatherer.ask(Question(messages, schema, seed))

    def _answer(self, questions: Sequence[Question]) -> list[str | Exception]:
        """Returns the reply to each question; questions with the same prefix form a batch."""
        tokens = [self._tokenize(question.messages) for question in questions]
        prefixes = [self._prefix(q.messages[:-1], t) for q, t in zip(questions, tokens, strict=True)]
        replies: dict[int, str | Exception] = {}
        for prefix in dict.fromkeys(map(id, prefixes)):
            indices = [i for i, other in enumerate(prefixes) if id(other) == prefix]
            batch = [(questions[i], tokens[i]) for i in indices]
            for index, reply in zip(indices, self._generate(batch, prefixes[indices[0]]), strict=True):
                if reply is None:
                    [reply] = self._generate([(questions[index], tokens[index])], prefixes[index])
                replies[index] = reply or ""
        return [replies[i] for i in range(len(questions))]

    def _generate(
        self, batch: Sequence[tuple[Question, list[int]]], prefix: Prefix
    ) -> list[str | Exception | None]:
        """Returns the reply to each question, None where rounding can have changed it."""
        import torch
        from xgrammar.contrib.hf import LogitsProcessor

        rests = [tokens[len(prefix.tokens) :] for _, tokens in batch]
        width = max(map(len, rests))
        padding = [width - len(rest) for rest in rests]
        rows = [[*prefix.tokens, *[self._pad] * n, *rest] for n, rest in zip(padding, rests, strict=True)]
        mask = torch.ones(len(rows), len(rows[0]), dtype=torch.long)
        for row, count in enumerate(padding):
            mask[row, len(prefix.tokens) : len(prefix.tokens) + count] = 0
        grammars = [
            self._compiler.compile_json_schema(json.dumps(question.schema), any_whitespace=False)
            for question, _ in batch
        ]
        noise = (
            0.0
            if len(batch) == 1
            else NOISE.get(str(self._network.dtype).removeprefix("torch."), NOISE["bfloat16"])
        )
        seeds = [question.seed for question, _ in batch]
        sampler = Sampler(self.temperature, self.top_p, seeds, noise, self._end_tokens)
        cache = {"past_key_values": prefix.copy(len(batch))} if prefix.tokens else {}
        device = self._network.device
        with torch.inference_mode():
            output = self._network.generate(
                torch.tensor(rows, device=device),
                attention_mask=mask.to(device),
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                num_beams=1,
                logits_processor=[LogitsProcessor(grammars), sampler],
                pad_token_id=self._pad,
                **cache,
            )
        replies = [self._decode(tokens) for tokens in output[:, len(rows[0]) :].tolist()]
        return [None if row in sampler.doubtful else reply for row, reply in enumerate(replies)]

    def _decode(self, tokens: list[int]) -> str | Exception:
        """Returns the text of a reply, or an ItemError where it does not end."""
        length = next((i for i, token in enumerate(tokens) if token in self._end_tokens), len(tokens))
        text = str(self._tokenizer.decode(tokens[:length], skip_special_tokens=True))
        if length == self.max_new_tokens:
            return ItemError("the reply is too long: set llm.max_new_tokens to a larger number", text)
        return text

    def _tokenize(self, messages: list[Message]) -> list[int]:
        tokens = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        return list(tokens["input_ids"])

    def _prefix(self, turns: list[Message], tokens: list[int]) -> Prefix:
        """Returns what the model has read after the turns before a question; reads them the first time.

        A cache that forgets (a sliding window) or sums up (linear attention) cannot be continued by rows of
        different lengths, so such a model reads everything with each question.
        """
        import torch

        key = json.dumps(turns)
        if key not in self._prefixes:
            first, second = (self._tokenize([*turns, Message(role="user", content=t)]) for t in ("", "a"))
            pairs = enumerate(zip(first, second, strict=False))
            length = next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
            self._prefixes[key] = Prefix()
            if length:
                with torch.inference_mode():
                    inputs = torch.tensor([first[:length]], device=self._network.device)
                    cache = self._network(inputs, use_cache=True).past_key_values
                if all(type(layer).__name__ == "DynamicLayer" for layer in getattr(cache, "layers", [None])):
                    self._prefixes[key] = Prefix(first[:length], cache)
        prefix = self._prefixes[key]
        return prefix if tokens[: len(prefix.tokens)] == prefix.tokens else self._no_prefix
