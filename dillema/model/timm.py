"""Models under test from timm (an extra: pip install 'dillema[timm]')."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from PIL import Image

from .. import hub
from ..errors import UserError
from . import WEIGHTS, ClassMap, Trainable, answers, read_weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TimmClassification(Trainable):
    """An image classifier of timm with its own preprocessing; its published weights, or those of a file.

    `model` is a name with the tag of its weights (convnextv2_tiny.fcmae_ft_in22k_in1k), `checkpoint` a state dict (.safetensors,
    or .pth without pickled code) for `classes` classes. `class_map` is as in TransformersClassification.
    """

    name: str
    model: str
    checkpoint: str | None = None
    classes: int = 1000
    class_map: ClassMap | None = None
    batch_size: int = 16
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("name", "batch_size", "device")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("checkpoint",)

    def downloads(self) -> list[str]:
        """Returns the address of the published weights, if those are asked for."""
        try:
            import timm
        except ImportError as error:
            raise UserError(f"model.{self.name} needs timm, which is not installed: pip install 'dillema[timm]'") from error
        architecture = self.model.partition(".")[0]
        if not timm.is_model(architecture):
            raise UserError(f"model.{self.name}.model={self.model}: timm {timm.__version__} has no model {architecture}")
        if self.checkpoint is not None:
            return []
        published = timm.list_pretrained(f"{architecture}.*")
        if self.model not in published:
            have = f"there are {', '.join(published)}" if published else "there are none"
            raise UserError(f"model.{self.name}.model={self.model}: timm names no such weights; {have}; or give a file as model.{self.name}.checkpoint")
        about = timm.get_pretrained_cfg(self.model)
        return [f"{about.hf_hub_id}/{about.hf_hub_filename or 'model.safetensors'}"]

    def load(self) -> None:
        """Loads the model; raises a UserError for names that timm lacks and for weights that cannot be had."""
        published = self.downloads()
        import timm

        if published:
            file = hub.file(published[0], "dataset=mini_imagenet model=mini_resnet")
            network = timm.create_model(self.model, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
        else:
            state = read_weights(str(self.checkpoint), f"model.{self.name}.checkpoint")
            network = timm.create_model(self.model, num_classes=self.classes)
            try:
                network.load_state_dict(state)
            except Exception as error:
                raise UserError(f"model.{self.name}.checkpoint={self.checkpoint} does not hold the weights of {self.model}: {error}") from error
        self._transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
        self._device, _ = hub.placement(self.device, "float32")
        self._network = network.to(self._device).eval()

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns logits as Trainable says."""
        import torch

        pixels = torch.stack([self._transform(image) for image in images])
        return answers(self._network(pixels.to(self._device)), images, self.class_map)

    def saved(self, folder: Path) -> Self:
        """Returns this model with the weights of a folder."""
        import timm

        classes = self.classes if self.checkpoint else timm.get_pretrained_cfg(self.model).num_classes
        return replace(self, checkpoint=str(folder / WEIGHTS), classes=classes)
