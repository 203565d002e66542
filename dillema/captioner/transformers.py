"""Captions by an image-to-text model of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import hub
from ..errors import UserError
from ..types import Caption, Dataset, Sample


@dataclass
class TransformersCaptioner:
    """A captioner that needs no prompt: BLIP, BLIP-2, GIT or a vision encoder-decoder, from a folder or the hub.

    Greedy unless `top_p` is set, which samples `num_captions` sentences from the nucleus.
    """

    model: str
    num_captions: int = 1
    top_p: float | None = None
    max_new_tokens: int = 30
    batch_size: int = 8
    dtype: hub.DType = "float32"
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("batch_size", "device")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("model",)

    def __post_init__(self) -> None:
        """Refuses several captions where every one would be the same."""
        if self.num_captions > 1 and self.top_p is None:
            raise UserError(f"captioner.num_captions={self.num_captions}: several different captions need sampling; set captioner.top_p, to 0.9 say")

    def load(self) -> None:
        """Loads the model, its tokenizer and its image processor."""
        import transformers

        instead = "captioner=mini, captioner=label or captioner=annotations"
        self._processor = hub.load(transformers.AutoImageProcessor, self.model, instead)
        self._tokenizer = hub.load(transformers.AutoTokenizer, self.model, instead)
        self._network = hub.network(transformers.AutoModelForImageTextToText, self.model, instead, self.device, self.dtype)

    def caption(self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]) -> list[Caption]:
        """Returns one caption a sample, made in one batch; the different sentences of one image are joined to one text."""
        import torch

        inputs = self._processor([sample.image for sample in samples], return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._network.device, self._network.dtype)
        with torch.inference_mode():
            if self.top_p is None:
                tokens = self._network.generate(pixel_values=pixels, max_new_tokens=self.max_new_tokens, do_sample=False)
                texts = [[text] for text in self._decode(tokens)]
            else:
                texts = []
                # generate() draws from torch's global generator, so only one call an image gives each its own seed
                for one, seed in zip(pixels.split(1), seeds, strict=True):
                    torch.manual_seed(seed)
                    tokens = self._network.generate(
                        pixel_values=one,
                        max_new_tokens=self.max_new_tokens,
                        do_sample=True,
                        top_p=self.top_p,
                        top_k=0,
                        num_return_sequences=self.num_captions,
                    )
                    texts.append(self._decode(tokens))
        return [Caption(". ".join(dict.fromkeys(sentences))) for sentences in texts]

    def _decode(self, tokens: object) -> list[str]:
        return [text.strip() for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)]
