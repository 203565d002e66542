"""Captions by an image-to-text model of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import hub
from ..backend import Dataset
from ..errors import UserError
from ..fields import BatchSize, Positive, TopP, Transient, Weights
from ..types import Caption, Sample
from .sampling import nucleus

ALTERNATIVES = "captioner=mini, captioner=label or captioner=annotations"


@dataclass
class TransformersCaptioner:
    """BLIP, BLIP-2, GIT, Florence-2 or a vision encoder-decoder.

    Attributes:
        model: A folder or a hub id.
        prompt: How the text begins (BLIP, BLIP-2: "a photo of") or the task (Florence-2:
            "<DETAILED_CAPTION>"); GIT and encoder-decoders take none.
        num_captions: How many sentences are sampled; different ones are joined.
        top_p: The share of the probability to sample from; None searches the most likely text with the
            settings of the checkpoint.
        max_new_tokens: The longest caption.
        quantization: A quantization_config of transformers, such as {quant_method: bitsandbytes,
            load_in_8bit: true}.
    """

    model: Weights[str]
    prompt: str = ""
    num_captions: Positive = 1
    top_p: TopP | None = None
    max_new_tokens: Positive = 30
    batch_size: BatchSize = 8
    dtype: hub.DType = "float32"
    quantization: dict[str, Any] | None = None
    device: Transient[str] = "auto"

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Raises a UserError for several captions that would all be equal."""
        if self.num_captions > 1 and self.top_p is None:
            raise UserError(
                f"captioner.num_captions={self.num_captions}: "
                "several different captions need sampling; set captioner.top_p, to 0.9 for example"
            )

    def load(self) -> None:
        """Loads the model, its tokenizer and its image processor."""
        import transformers

        # the processor of a model without a text input may have no tokenizer class
        processor = transformers.AutoProcessor if self.prompt else transformers.AutoImageProcessor
        self._processor = hub.load(processor, self.model, ALTERNATIVES)
        self._tokenizer = hub.load(transformers.AutoTokenizer, self.model, ALTERNATIVES)
        self._network = hub.network(
            transformers.AutoModelForImageTextToText,
            self.model,
            ALTERNATIVES,
            self.device,
            self.dtype,
            self.quantization,
        )

    def caption(self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]) -> list[Caption]:
        """Returns one caption a sample, made in one batch."""
        import torch

        images = [sample.image for sample in samples]
        # only some processors accept a text
        text = {"text": [self.prompt] * len(images)} if self.prompt else {}
        inputs = self._processor(images=images, **text, return_tensors="pt")
        inputs = inputs.to(self._network.device, self._network.dtype)
        sampling: dict[str, Any] = {"do_sample": False}
        if self.top_p is not None:
            sampling = nucleus(self.top_p, seeds, self.num_captions)
        with torch.inference_mode():
            tokens = self._network.generate(**inputs, max_new_tokens=self.max_new_tokens, **sampling)
        decoded = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        texts = [text.strip().removeprefix(self.prompt).strip() for text in decoded]
        starts = range(0, len(texts), self.num_captions)
        return [Caption(". ".join(dict.fromkeys(texts[i : i + self.num_captions]))) for i in starts]
