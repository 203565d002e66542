"""Models under test from transformers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image

from .. import hub
from . import ClassMap, Trainable, answers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class _Transformers(Trainable):
    name: str
    model: str
    class_map: ClassMap | None = None
    batch_size: int = 8
    dtype: hub.DType = "float32"
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("name", "batch_size", "device")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("model",)
    kind: ClassVar[str]

    def load(self) -> None:
        """Loads the model and its image processor."""
        import transformers

        instead = "model=mini_segformer or model=mini_resnet"
        self._processor = hub.load(transformers.AutoImageProcessor, self.model, instead)
        self._network = hub.network(getattr(transformers, self.kind), self.model, instead, self.device, self.dtype)

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns logits as Trainable says."""
        pixels = self._processor(list(images), return_tensors="pt")["pixel_values"]
        output = self._network(pixel_values=pixels.to(self._network.device, self._network.dtype))
        return answers(self._logits(output), images, self.class_map, tuple(self._network.config.id2label.values()))

    def save(self, folder: Path) -> None:
        """Writes the model and its image processor to a folder."""
        self._network.save_pretrained(folder)
        self._processor.save_pretrained(folder)

    def saved(self, folder: Path) -> Self:
        """Returns this model with the weights of a folder."""
        return replace(self, model=str(folder))

    def _logits(self, output: Any) -> "Tensor":
        logits: Tensor = output.logits
        return logits


@dataclass
class TransformersClassification(_Transformers):
    """An image classifier from a folder or the hub; `class_map` gives the data set's class id for each of the model's.

    Where `class_map` sends several of the model's classes to one, their probabilities are added; classes that it leaves out do not count.
    """

    kind: ClassVar[str] = "AutoModelForImageClassification"


@dataclass
class TransformersSegmentation(_Transformers):
    """A semantic segmenter with one logit a class and pixel (SegFormer, UPerNet, ...), from a folder or the hub; for `class_map` see above."""

    kind: ClassVar[str] = "AutoModelForSemanticSegmentation"


@dataclass
class TransformersMaskSegmentation(_Transformers):
    """A segmenter that gives masks with a class each (MaskFormer, Mask2Former), from a folder or the hub; for `class_map` see above.

    A class's score at a pixel is the sum over all masks of the mask times the probability of the class (Cheng et al., NeurIPS 2021).
    """

    kind: ClassVar[str] = "AutoModelForUniversalSegmentation"

    def _logits(self, output: Any) -> "Tensor":
        import torch

        classes = output.class_queries_logits.float().softmax(-1)[..., :-1]  # the last one stands for no object
        return torch.einsum("bqc,bqhw->bchw", classes, output.masks_queries_logits.float().sigmoid()).clamp_min(1e-12).log()
