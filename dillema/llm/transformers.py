"""Chat models of transformers, run in this process."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import hub
from ..errors import ItemError, UserError
from . import Message


@dataclass
class TransformersLanguageModel:
    """Asks a model in a folder or on the hub. XGrammar masks every token that would not fit the schema, so that a reply cannot be malformed.

    `quantization` is a quantization_config of transformers. XGrammar: Dong et al. 2024, arXiv 2411.15100.
    """

    model: str
    temperature: float = 0.2
    max_new_tokens: int = 256
    dtype: hub.DType = "auto"
    quantization: dict[str, Any] | None = None
    device: str = "auto"

    batch_size: ClassVar[int] = 1
    version: ClassVar[int] = 1
    transient: ClassVar[tuple[str, ...]] = ("device",)
    weights: ClassVar[tuple[str, ...]] = ("model",)

    def load(self, turns: Sequence[list[Message]] = ()) -> None:
        """Loads the model and its tokenizer; raises a UserError when it is no chat model or XGrammar is not installed."""
        import transformers

        try:
            import xgrammar
        except ModuleNotFoundError as error:
            raise UserError(f"{type(self).__name__} needs XGrammar: pip install 'dillema[xgrammar]'; llm=smollm2 does without") from error
        self._tokenizer = hub.load(transformers.AutoTokenizer, self.model, "llm=smollm2")
        if not self._tokenizer.chat_template:
            raise UserError(f"llm.model: {self.model} has no chat template, so it is no chat model; take the one called -Instruct or -chat")
        self._network = hub.network(transformers.AutoModelForCausalLM, self.model, "llm=smollm2", self.device, self.dtype, self.quantization)
        tokens = xgrammar.TokenizerInfo.from_huggingface(self._tokenizer, vocab_size=self._network.config.get_text_config().vocab_size)
        self._compiler = xgrammar.GrammarCompiler(tokens)

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns JSON that fits a schema; raises an ItemError when it is longer than `max_new_tokens`."""
        import torch
        from xgrammar.contrib.hf import LogitsProcessor

        inputs = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt").to(self._network.device)
        grammar = self._compiler.compile_json_schema(json.dumps(schema), any_whitespace=False)
        how = {"do_sample": True, "temperature": float(self.temperature)} if self.temperature else {"do_sample": False}
        torch.manual_seed(seed)
        with torch.inference_mode():
            tokens = self._network.generate(**inputs, max_new_tokens=self.max_new_tokens, num_beams=1, logits_processor=[LogitsProcessor(grammar)], **how)
        reply = tokens[0, inputs["input_ids"].shape[1] :]
        text = str(self._tokenizer.decode(reply, skip_special_tokens=True))
        if len(reply) == self.max_new_tokens:
            raise ItemError("the reply is too long: set llm.max_new_tokens to a larger number", text)
        return text
