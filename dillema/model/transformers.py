"""Models under test from transformers."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image

from .. import hub
from ..fields import BatchSize, Positive, Transient, Weights
from ..image_size import in_proportion
from .logits import ClassMap, map_logits
from .trainable import Trainable
from .weights import expand_home

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from torch import Tensor

STRIDE = 32  # of segmentation networks: the sides of their input are multiples of it
_NO_NAME = re.compile(r"LABEL_\d+")


@dataclass
class _Transformers(Trainable):
    name: Transient[str]
    model: Weights[str]
    class_map: ClassMap | None = None
    default_class_map: Mapping[str, str] | None = None
    batch_size: BatchSize = 8
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"

    version: ClassVar[int] = 2
    auto_class: ClassVar[str]

    def __post_init__(self) -> None:
        """Replaces a leading ~ of a path by the home folder."""
        self.model = expand_home(self.model)

    @property
    def class_names(self) -> Sequence[str]:
        """Returns the class names of the loaded checkpoint; empty if it only numbers its classes."""
        names = self._id2label
        return () if any(_NO_NAME.fullmatch(name) for name in names) else names

    def load(self) -> None:
        """Loads the model and its image processor."""
        import transformers

        instead = "model=mini_segformer or model=mini_resnet"
        self._processor = hub.load(transformers.AutoImageProcessor, self.model, instead)
        auto_class = getattr(transformers, self.auto_class)
        self._network = hub.network(auto_class, self.model, instead, self.device, self._choose_dtype())

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns the logits; see `Trainable`."""
        pixels = self._read_pixels(images)
        output = self._network(pixel_values=pixels.to(self._network.device, self._network.dtype))
        return map_logits(self._read_logits(output), images, self.class_map, self._id2label)

    def save(self, folder: Path) -> None:
        """Writes the model and its image processor to a folder."""
        self._network.save_pretrained(folder)
        self._processor.save_pretrained(folder)

    def saved(self, folder: Path) -> Self:
        """Returns this model with the weights of a folder."""
        return replace(self, model=str(folder))

    def _choose_dtype(self) -> hub.DType:
        return self.dtype

    @property
    def _id2label(self) -> tuple[str, ...]:
        id2label: dict[int, str] = self._network.config.id2label
        return tuple(id2label[i] for i in sorted(id2label))

    def _read_pixels(self, images: Sequence[Image.Image]) -> "Tensor":
        """Returns the input of the network."""
        pixels: Tensor = self._processor(list(images), return_tensors="pt")["pixel_values"]
        return pixels

    def _read_logits(self, output: Any) -> "Tensor":
        logits: Tensor = output.logits
        return logits


@dataclass
class TransformersClassification(_Transformers):
    """An image classifier from a folder or the hub.

    `class_map` gives the data set's class id for each class of the model, by id or name. If it maps several
    classes to one, their probabilities are added; classes that it leaves out do not count. Without it,
    classes are matched by their names, and then by `default_class_map`, which maps names of the checkpoint to
    names of the data set and applies if both have these names (see `dillema.model.classes`).
    """

    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    task: ClassVar[str] = "classification"


@dataclass
class _Segmenter(_Transformers):
    """A segmenter.

    Attributes:
        short_side: Pixels of the shorter side of the network's input, which then has the proportions of the
            image; None: the size that the checkpoint's image processor gives, often a square.
    """

    short_side: Positive | None = None

    task: ClassVar[str] = "segmentation"

    def _read_pixels(self, images: Sequence[Image.Image]) -> "Tensor":
        if self.short_side is None:
            return super()._read_pixels(images)
        size = in_proportion(images[0].size, self.short_side, STRIDE)
        resized = [image.resize(size, Image.Resampling.BILINEAR) for image in images]
        pixels: Tensor = self._processor(resized, do_resize=False, return_tensors="pt")["pixel_values"]
        return pixels


@dataclass
class TransformersSegmentation(_Segmenter):
    """A segmenter with one logit a class and pixel (SegFormer, UPerNet, ...), from a folder or the hub.

    For its classes see TransformersClassification.
    """

    auto_class: ClassVar[str] = "AutoModelForSemanticSegmentation"


@dataclass
class TransformersMaskSegmentation(_Segmenter):
    """A segmenter that gives masks with a class each (MaskFormer, Mask2Former), from a folder or the hub.

    A class's score at a pixel is the sum over all masks of the mask times the probability of the class (Cheng
    et al., NeurIPS 2021). For its classes see TransformersClassification.
    """

    version: ClassVar[int] = 3
    auto_class: ClassVar[str] = "AutoModelForUniversalSegmentation"

    def _choose_dtype(self) -> hub.DType:
        """Returns float32 on a CPU, where torch samples deformable attention wrongly in 16 bits."""
        device, dtype = hub.placement(self.device, self.dtype)
        if device == "cpu" and dtype.itemsize < 4:
            log.warning(
                "%s: float32 on this CPU, because in %s its masks would be wrong", self.model, self.dtype
            )
            return "float32"
        return self.dtype

    def _read_logits(self, output: Any) -> "Tensor":
        import torch

        # the last class means "no object"
        classes = output.class_queries_logits.float().softmax(-1)[..., :-1]
        masks = output.masks_queries_logits.float().sigmoid()
        return torch.einsum("bqc,bqhw->bchw", classes, masks).clamp_min(1e-12).log()
