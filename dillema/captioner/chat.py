"""Captions by a vision language model with a chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import hub
from ..backend import Dataset
from ..errors import UserError
from ..execution import each_alone
from ..fields import BatchSize, Positive, TopP, Transient, Weights
from ..types import Caption, Sample
from .sampling import nucleus
from .transformers import ALTERNATIVES

PROMPT = (
    "Describe this photo in one sentence, as a plain caption. "
    "Name the main object and its colour, what is around it, the place, the weather and the time of day, "
    "as far as they can be seen."
)


@dataclass
class ChatCaptioner:
    """A vision model of transformers with a chat template: Qwen-VL, SmolVLM, LLaVA, ...

    Attributes:
        model: A folder or a hub id.
        prompt: The question.
        longest_side: Larger images are shown with this many pixels along their longer side: time and memory
            grow with the area. Models that cut an image into tiles make only the tiles of this size.
        top_p: The share of the probability that is sampled from; None takes the most likely text.
        max_new_tokens: The longest caption.
        quantization: A quantization_config of transformers.
    """

    model: Weights[str]
    prompt: str = PROMPT
    longest_side: Positive = 768
    top_p: TopP | None = None
    max_new_tokens: Positive = 80
    batch_size: BatchSize = 8
    dtype: hub.DType = "auto"
    quantization: dict[str, Any] | None = None
    device: Transient[str] = "auto"

    version: ClassVar[int] = 3

    def load(self) -> None:
        """Loads the model and its processor; raises a UserError when it has no chat template."""
        import transformers

        self._processor = hub.load(transformers.AutoProcessor, self.model, ALTERNATIVES)
        if not getattr(self._processor, "chat_template", None):
            raise UserError(
                f"captioner.model: {self.model} has no chat template; "
                "a model without one is an option like captioner=blip"
            )
        self._processor.tokenizer.padding_side = "left"  # the reply follows the question directly
        _limit_tiles(self._processor.image_processor, self.longest_side)
        self._network = hub.network(
            transformers.AutoModelForImageTextToText,
            self.model,
            ALTERNATIVES,
            self.device,
            self.dtype,
            self.quantization,
        )

    def caption(self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]) -> list[Caption]:
        """Returns one caption a sample; on a CPU, it does not depend on the batch."""
        items = list(zip(samples, seeds, strict=True))
        return each_alone(self._caption, items, hub.is_on_cpu(self.device), thread_safe=False)

    def _caption(self, items: Sequence[tuple[Sample, int]]) -> list[Caption]:
        """Returns the captions of a batch."""
        import torch

        images = [sample.image for sample, _ in items]
        for image in images:
            image.thumbnail((self.longest_side, self.longest_side))
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self.prompt}]}]
        text = self._processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        inputs = self._processor(
            images=[[image] for image in images],
            text=[text] * len(images),
            padding=True,
            return_tensors="pt",
        ).to(self._network.device, self._network.dtype)
        sampling = {"do_sample": False, "num_beams": 1}
        if self.top_p is not None:
            sampling = nucleus(self.top_p, [seed for _, seed in items], 1)
        with torch.inference_mode():
            tokens = self._network.generate(**inputs, max_new_tokens=self.max_new_tokens, **sampling)
        replies = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self._processor.batch_decode(replies, skip_special_tokens=True)
        return [Caption(" ".join(text.split())) for text in texts]


def _limit_tiles(image_processor: Any, longest_side: int) -> None:
    """Limits the size to which a processor that cuts images into tiles (SmolVLM) enlarges them first.

    The processor of SmolVLM2 enlarges every image to 2048 pixels, which makes up to 17 tiles.
    """
    enlarged = getattr(getattr(image_processor, "size", None), "longest_edge", None)
    tile = (getattr(image_processor, "max_image_size", None) or {}).get("longest_edge")
    if enlarged and tile:
        image_processor.size = type(image_processor.size)(longest_edge=min(enlarged, max(longest_side, tile)))
