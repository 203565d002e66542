"""Models under test from transformers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from .. import hub

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class _Transformers:
    name: str
    model: str
    class_map: Mapping[int, int] | None = None
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

    def _logits(self, images: Sequence[Image.Image]) -> "Tensor":
        import torch

        pixels = self._processor(list(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            logits: Tensor = self._network(pixel_values=pixels.to(self._network.device, self._network.dtype)).logits.float().cpu()
        if self.class_map is None:
            return logits
        probabilities = logits.softmax(1)[:, list(self.class_map)]
        ids = torch.tensor(list(self.class_map.values()))
        summed = logits.new_zeros(len(logits), int(ids.max()) + 1, *logits.shape[2:]).index_add(1, ids, probabilities)
        return summed.clamp_min(1e-12).log()


@dataclass
class TransformersClassification(_Transformers):
    """An image classifier from a folder or the hub; `class_map` gives the data set's class id for each of the model's.

    Where `class_map` sends several of the model's classes to one, their probabilities are added.
    """

    kind: ClassVar[str] = "AutoModelForImageClassification"

    def predict(self, images: Sequence[Image.Image]) -> "Tensor":
        """Returns logits (images, classes), float32, on the CPU."""
        return self._logits(images)


@dataclass
class TransformersSegmentation(_Transformers):
    """A semantic segmenter with one logit a class and pixel, from a folder or the hub; for `class_map` see TransformersClassification."""

    kind: ClassVar[str] = "AutoModelForSemanticSegmentation"

    def predict(self, images: Sequence[Image.Image]) -> "list[Tensor]":
        """Returns for each image logits (classes, height, width) at the size of that image, float32, on the CPU."""
        from torch.nn import functional as F

        logits = self._logits(images)
        return [F.interpolate(one[None], (image.height, image.width), mode="bilinear")[0] for one, image in zip(logits, images, strict=True)]
