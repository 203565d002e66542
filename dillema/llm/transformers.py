"""Chat models of transformers, run in this process."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import hub
from ..backend import Message
from ..errors import ItemError, UserError
from ..fields import Positive, Temperature, TopP, Transient, Weights

ALTERNATIVE = "llm=smollm2"


@dataclass
class TransformersLanguageModel:
    """Asks a model of transformers. XGrammar masks every token that would not fit the schema.

    XGrammar: Dong et al. 2024, arXiv 2411.15100.

    Attributes:
        model: A folder or a hub id.
        temperature: The sampling temperature; 0 takes the most likely token.
        top_p: The share of the probability to sample from.
        max_new_tokens: The longest reply.
        quantization: A quantization_config of transformers.
    """

    model: Weights[str]
    temperature: Temperature = 0.2
    top_p: TopP = 0.95
    max_new_tokens: Positive = 256
    dtype: hub.DType = "auto"
    quantization: dict[str, Any] | None = None
    device: Transient[str] = "auto"

    batch_size: ClassVar[int] = 1
    version: ClassVar[int] = 2

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

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns JSON that fits a schema; raises an ItemError when it is longer than `max_new_tokens`."""
        import torch
        from xgrammar.contrib.hf import LogitsProcessor

        inputs = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        ).to(self._network.device)
        grammar = self._compiler.compile_json_schema(json.dumps(schema), any_whitespace=False)
        sampling: dict[str, Any] = {"do_sample": False}
        if self.temperature:
            sampling = {
                "do_sample": True,
                "temperature": float(self.temperature),
                "top_p": float(self.top_p),
                "top_k": 0,
            }
        torch.manual_seed(seed)
        with torch.inference_mode():
            tokens = self._network.generate(
                **inputs,
                max_new_tokens=self.max_new_tokens,
                num_beams=1,
                logits_processor=[LogitsProcessor(grammar)],
                **sampling,
            )
        reply = tokens[0, inputs["input_ids"].shape[1] :]
        text = str(self._tokenizer.decode(reply, skip_special_tokens=True))
        if len(reply) == self.max_new_tokens:
            raise ItemError("the reply is too long: set llm.max_new_tokens to a larger number", text)
        return text
