"""Models under test from timm (an extra: pip install 'dillema[timm]')."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from PIL import Image

from .. import hub
from ..errors import UserError
from ..fields import BatchSize, Positive, Transient, Weights
from .logits import ClassMap, map_logits
from .trainable import Trainable
from .weights import SAVED_WEIGHTS, expand_home, load_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TimmClassification(Trainable):
    """An image classifier of timm with its own preprocessing; its published weights, or those of a file.

    `model` is a name with the tag of its weights (convnextv2_tiny.fcmae_ft_in22k_in1k), `checkpoint` a file
    of weights (see `read_weights`) for `classes` classes. `class_map` is as in TransformersClassification.
    """

    name: Transient[str]
    model: str
    checkpoint: Weights[str | None] = None
    classes: Positive = 1000
    class_map: ClassMap | None = None
    batch_size: BatchSize = 16
    device: Transient[str] = "auto"

    version: ClassVar[int] = 2
    task: ClassVar[str] = "classification"

    def __post_init__(self) -> None:
        """Replaces a leading ~ of a path by the home folder."""
        self.checkpoint = self.checkpoint and expand_home(self.checkpoint)

    @property
    def class_names(self) -> Sequence[str]:
        """Returns the class names of the published weights; empty for a file, which has none."""
        if self.checkpoint is not None:
            return ()
        import timm

        subset = timm.data.infer_imagenet_subset(self._network)
        info = timm.data.ImageNetInfo(subset) if subset else None
        return tuple(map(info.index_to_description, range(info.num_classes()))) if info else ()

    def downloads(self) -> list[str]:
        """Returns the address of the published weights, if they are used."""
        try:
            import timm
        except ImportError as error:
            raise UserError(
                f"model.{self.name} needs timm, which is not installed: pip install 'dillema[timm]'"
            ) from error
        architecture, setting = self.model.partition(".")[0], f"model.{self.name}.model={self.model}"
        if not timm.is_model(architecture):
            raise UserError(f"{setting}: timm {timm.__version__} has no model {architecture}")
        if self.checkpoint is not None:
            return []
        published = timm.list_pretrained(f"{architecture}.*")
        if self.model not in published:
            there_are = f"there are {', '.join(published)}" if published else "there are none"
            raise UserError(
                f"{setting}: timm names no such weights; {there_are}; or give a file as "
                f"model.{self.name}.checkpoint"
            )
        settings = timm.get_pretrained_cfg(self.model)
        return [f"{settings.hf_hub_id}/{settings.hf_hub_filename or 'model.safetensors'}"]

    def load(self) -> None:
        """Loads the model; raises a UserError for unknown names and for missing weights."""
        published = self.downloads()
        import timm

        if published:
            file = hub.file(published[0], "dataset=mini_imagenet model=mini_resnet")
            network = timm.create_model(
                self.model, pretrained=True, pretrained_cfg_overlay={"file": str(file)}
            )
        else:
            setting = f"model.{self.name}.checkpoint"
            state = read_weights(str(self.checkpoint), setting)
            network = timm.create_model(self.model, num_classes=self.classes)
            load_weights(network, state, f"{setting}={self.checkpoint}")
        settings = timm.data.resolve_model_data_config(network)
        self._transform = timm.data.create_transform(**settings, is_training=False)
        self._device, _ = hub.placement(self.device, "float32")
        self._network = network.to(self._device).eval()

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns the logits; see `Trainable`."""
        import torch

        pixels = torch.stack([self._transform(image) for image in images])
        return map_logits(self._network(pixels.to(self._device)), images, self.class_map)

    def saved(self, folder: Path) -> Self:
        """Returns this model with the weights of a folder."""
        import timm

        classes = self.classes if self.checkpoint else timm.get_pretrained_cfg(self.model).num_classes
        return replace(self, checkpoint=str(folder / SAVED_WEIGHTS), classes=classes)
