"""Captions by a chat model that sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import hub
from ..errors import UserError
from ..types import Caption, Dataset, Sample
from .sampling import nucleus

PROMPT = (
    "Describe this photo in one sentence, as a plain caption. "
    "Name the main object and its colour, what is around it, the place, the weather and the time of day, as far as they can be seen."
)


@dataclass
class ChatCaptioner:
    """A vision model of transformers that is asked through its chat template: Qwen-VL, SmolVLM, LLaVA, Gemma 3 and others.

    No side of an image is longer than `longest_side` pixels, for time and memory grow with its area. The most likely text is
    taken, unless `top_p` is set, which samples it from the nucleus. `quantization` is a quantization_config of transformers.
    """

    model: str
    prompt: str = PROMPT
    longest_side: int = 768
    top_p: float | None = None
    max_new_tokens: int = 80
    batch_size: int = 8
    dtype: hub.DType = "auto"
    quantization: dict[str, Any] | None = None
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("batch_size", "device")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("model",)

    def load(self) -> None:
        """Loads the model and its processor; raises a UserError when it has no chat template."""
        import transformers

        instead = "captioner=mini, captioner=label or captioner=annotations"
        self._processor = hub.load(transformers.AutoProcessor, self.model, instead)
        if not getattr(self._processor, "chat_template", None):
            raise UserError(f"captioner.model: {self.model} has no chat template; a model that takes none is an option like captioner=blip")
        self._processor.tokenizer.padding_side = "left"  # a reply goes on where its question ends
        self._network = hub.network(transformers.AutoModelForImageTextToText, self.model, instead, self.device, self.dtype, self.quantization)

    def caption(self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]) -> list[Caption]:
        """Returns one caption a sample, made in one batch."""
        import torch

        images = [sample.image for sample in samples]
        for image in images:
            image.thumbnail((self.longest_side, self.longest_side))
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self.prompt}]}]
        text = self._processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        inputs = self._processor(images=[[image] for image in images], text=[text] * len(images), padding=True, return_tensors="pt")
        inputs = inputs.to(self._network.device, self._network.dtype)
        how = {"do_sample": False, "num_beams": 1} if self.top_p is None else nucleus(self.top_p, seeds, 1)
        with torch.inference_mode():
            tokens = self._network.generate(**inputs, max_new_tokens=self.max_new_tokens, **how)
        replies = self._processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [Caption(" ".join(reply.split())) for reply in replies]
