"""Captions by an image-to-text model of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import hub
from ..errors import UserError
from ..types import Caption, Dataset, Sample
from .sampling import nucleus


@dataclass
class TransformersCaptioner:
    """BLIP, BLIP-2, GIT, Florence-2 or a vision encoder-decoder, from a folder or the hub.

    `prompt` is how the text begins (BLIP, BLIP-2: "a photo of") or the task (Florence-2: "<DETAILED_CAPTION>"); GIT and
    encoder-decoders take none. The most likely text is looked for in the way that the checkpoint's settings say, unless
    `top_p` is set: then `num_captions` sentences are sampled from the nucleus. `quantization` is a quantization_config of
    transformers, such as {quant_method: bitsandbytes, load_in_8bit: true}.
    """

    model: str
    prompt: str = ""
    num_captions: int = 1
    top_p: float | None = None
    max_new_tokens: int = 30
    batch_size: int = 8
    dtype: hub.DType = "float32"
    quantization: dict[str, Any] | None = None
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("batch_size", "device")
    version: ClassVar[int] = 2
    weights: ClassVar[tuple[str, ...]] = ("model",)

    def __post_init__(self) -> None:
        """Refuses several captions where every one would be the same."""
        if self.num_captions > 1 and self.top_p is None:
            raise UserError(f"captioner.num_captions={self.num_captions}: several different captions need sampling; set captioner.top_p, to 0.9 say")

    def load(self) -> None:
        """Loads the model, its tokenizer and its image processor."""
        import transformers

        instead = "captioner=mini, captioner=label or captioner=annotations"
        self._processor = hub.load(transformers.AutoProcessor if self.prompt else transformers.AutoImageProcessor, self.model, instead)
        self._tokenizer = hub.load(transformers.AutoTokenizer, self.model, instead)
        self._network = hub.network(transformers.AutoModelForImageTextToText, self.model, instead, self.device, self.dtype, self.quantization)

    def caption(self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]) -> list[Caption]:
        """Returns one caption a sample, made in one batch; the different sentences of one image are joined to one text."""
        import torch

        images = [sample.image for sample in samples]
        # they may only be given a text where they take one
        inputs = self._processor(images=images, **{"text": [self.prompt] * len(images)} if self.prompt else {}, return_tensors="pt")
        inputs = inputs.to(self._network.device, self._network.dtype)
        how = {"do_sample": False} if self.top_p is None else nucleus(self.top_p, seeds, self.num_captions)
        with torch.inference_mode():
            tokens = self._network.generate(**inputs, max_new_tokens=self.max_new_tokens, **how)
        texts = [text.strip().removeprefix(self.prompt).strip() for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        return [Caption(". ".join(dict.fromkeys(texts[i : i + self.num_captions]))) for i in range(0, len(texts), self.num_captions)]
