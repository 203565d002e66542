"""Models under test from torchvision."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image

from .. import hub
from ..errors import NoWeights, UserError
from . import WEIGHTS, ClassMap, Trainable, answers, read_weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class _Torchvision(Trainable):
    name: str
    model: str
    checkpoint: str = "DEFAULT"
    classes: int = 1000
    class_map: ClassMap | None = None
    batch_size: int = 16
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("name", "batch_size", "device")
    version: ClassVar[int] = 2
    weights: ClassVar[tuple[str, ...]] = ("checkpoint",)
    task: ClassVar[str]

    def downloads(self) -> list[str]:
        """Returns the address of the weights, if they are published ones."""
        return [] if Path(self.checkpoint).suffix else [self._published(self.checkpoint).url]

    def load(self) -> None:
        """Loads the model; raises a UserError for names that torchvision lacks and for weights that cannot be had."""
        import torch
        from torchvision import models

        if Path(self.checkpoint).suffix:
            state = read_weights(self.checkpoint, f"model.{self.name}.checkpoint")
            weights = self._published("DEFAULT")
            network = models.get_model(self.model, num_classes=self.classes, **({} if self.task == "classification" else {"weights_backbone": None}))
            try:
                network.load_state_dict({key: value for key, value in state.items() if not key.startswith("aux_classifier.")})  # used in training only
            except Exception as error:
                raise UserError(f"model.{self.name}.checkpoint={self.checkpoint} does not hold the weights of {self.model}: {error}") from error
            known = weights.meta["categories"]
            self._names: Sequence[str] = known if len(known) == self.classes else ()
        else:
            weights = self._published(self.checkpoint)
            try:
                network = models.get_model(self.model, weights=weights)
            except OSError as error:
                folder = Path(torch.hub.get_dir()) / "checkpoints"
                raise NoWeights(
                    f"The weights of {self.model} are not on this machine ({folder / Path(weights.url).name}) and could not be downloaded ({error}).\n"
                    f"Fetch {weights.url} and put it into {folder}, or give a file as model.{self.name}.checkpoint, "
                    "or use what needs no download: model=mini_segformer, or dataset=mini_imagenet model=mini_resnet."
                ) from error
            self._names = weights.meta["categories"]
        self._transform = weights.transforms()
        self._device, _ = hub.placement(self.device, "float32")
        self._network = network.to(self._device).eval()

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns logits as Trainable says."""
        import torch

        output = self._network(torch.stack([self._transform(image) for image in images]).to(self._device))
        return answers(output if self.task == "classification" else output["out"], images, self.class_map, self._names)

    def saved(self, folder: Path) -> Self:
        """Returns this model with the weights of a folder."""
        return replace(self, checkpoint=str(folder / WEIGHTS))

    def _published(self, name: str) -> Any:
        """Returns an entry of the model's weights enum."""
        from torchvision import models

        module: ModuleType = models if self.task == "classification" else models.segmentation
        if self.model not in (known := models.list_models(module=module)):
            raise UserError(f"model.{self.name}.model={self.model}: torchvision has no such model for {self.task}; it has {', '.join(known)}")
        weights = models.get_model_weights(self.model)
        if name not in weights.__members__:
            raise UserError(f"model.{self.name}.checkpoint={name}: for {self.model} there are {', '.join(weights.__members__)}, or give a file")
        return weights[name]


@dataclass
class TorchvisionClassification(_Torchvision):
    """An image classifier of torchvision, with published weights or those of a file.

    `checkpoint` is a name of the model's weights enum (IMAGENET1K_V2, DEFAULT, ...), which brings its own preprocessing,
    or a state dict (.safetensors, or .pth without pickled code) for `classes` classes, whose images are prepared as for
    DEFAULT. `class_map` is as in TransformersClassification.
    """

    task: ClassVar[str] = "classification"


@dataclass
class TorchvisionSegmentation(_Torchvision):
    """A semantic segmenter of torchvision, with published weights (which know the 21 classes of VOC) or those of a file; see TorchvisionClassification."""

    classes: int = 21
    batch_size: int = 4

    task: ClassVar[str] = "segmentation"
