"""Captions by an image-to-text model of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import hub
from ..backend import Dataset
from ..errors import UserError
from ..execution import each_alone
from ..fields import BatchSize, Positive, TopP, Transient, Weights
from ..llm.sampling import NOISE, Sampler
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

    version: ClassVar[int] = 3

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
        """Returns one caption a sample; on a CPU, it does not depend on the batch.

        A CPU needs batches for its short steps. The most likely text is therefore searched in a batch, and
        again alone where rounding could have changed a token.
        """
        items, is_on_cpu = list(zip(samples, seeds, strict=True)), hub.is_on_cpu(self.device)
        # the processor of a model with a prompt has a tokenizer, which threads must not share
        thread_safe = not self.prompt
        if not (is_on_cpu and self._takes_likeliest and self.dtype == "float32"):
            return each_alone(self._caption, items, is_on_cpu, thread_safe)
        sampler = Sampler(0.0, 1.0, seeds, NOISE["float32"], self._end_tokens)
        captions = self._caption(items, [sampler])
        doubtful = sorted(sampler.doubtful)
        alone = each_alone(self._caption, [items[row] for row in doubtful], is_on_cpu, thread_safe)
        again = dict(zip(doubtful, alone, strict=True))
        return [again.get(row, caption) for row, caption in enumerate(captions)]

    @property
    def _takes_likeliest(self) -> bool:
        """Returns whether each token is the most likely one, without a search over several texts."""
        from transformers import GenerationMixin

        # others generate with the settings of one of their parts
        is_common = type(self._network).generate is GenerationMixin.generate
        return self.top_p is None and is_common and (self._network.generation_config.num_beams or 1) == 1

    @property
    def _end_tokens(self) -> list[int]:
        ends = self._network.generation_config.eos_token_id
        return [ends] if isinstance(ends, int) else list(ends or [])

    def _caption(self, items: Sequence[tuple[Sample, int]], processors: Sequence[Any] = ()) -> list[Caption]:
        """Returns the captions of a batch; `processors` see and change the scores of each token."""
        import torch

        images = [sample.image for sample, _ in items]
        # only some processors accept a text
        text = {"text": [self.prompt] * len(images)} if self.prompt else {}
        inputs = self._processor(images=images, **text, return_tensors="pt")
        inputs = inputs.to(self._network.device, self._network.dtype)
        sampling: dict[str, Any] = {"do_sample": False, "logits_processor": list(processors)}
        if self.top_p is not None:
            sampling = nucleus(self.top_p, [seed for _, seed in items], self.num_captions)
        with torch.inference_mode():
            tokens = self._network.generate(**inputs, max_new_tokens=self.max_new_tokens, **sampling)
        decoded = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        texts = [text.strip().removeprefix(self.prompt).strip() for text in decoded]
        starts = range(0, len(texts), self.num_captions)
        return [Caption(". ".join(dict.fromkeys(texts[i : i + self.num_captions]))) for i in starts]
