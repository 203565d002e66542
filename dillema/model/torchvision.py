"""Models under test from torchvision."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image

from .. import hub
from ..errors import NoWeights, UserError
from ..fields import BatchSize, Positive, Transient, Weights
from .logits import ClassMap, map_logits
from .trainable import Trainable
from .weights import SAVED_WEIGHTS, expand_home, load_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class _Torchvision(Trainable):
    name: Transient[str]
    model: str
    checkpoint: Weights[str] = "DEFAULT"
    classes: Positive = 1000
    class_map: ClassMap | None = None
    batch_size: BatchSize = 16
    device: Transient[str] = "auto"

    version: ClassVar[int] = 3
    task: ClassVar[str]

    def __post_init__(self) -> None:
        """Replaces a leading ~ of a path by the home folder."""
        self.checkpoint = expand_home(self.checkpoint)

    @property
    def class_names(self) -> Sequence[str]:
        """Returns the class names of the published weights; empty for a file, which has none."""
        return () if self._is_file else self._names

    def downloads(self) -> list[str]:
        """Returns the address of the published weights, if they are used."""
        return [] if self._is_file else [self._find_published(self.checkpoint).url]

    def load(self) -> None:
        """Loads the model; raises a UserError for unknown names and for missing weights."""
        weights = self._find_published("DEFAULT" if self._is_file else self.checkpoint)
        network = self._load_file() if self._is_file else self._load_published(weights)
        categories = weights.meta["categories"]
        self._names: Sequence[str] = (
            categories if not self._is_file or len(categories) == self.classes else ()
        )
        self._transform = weights.transforms()
        self._device, _ = hub.placement(self.device, "float32")
        self._network = network.to(self._device).eval()

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns the logits; see `Trainable`."""
        import torch

        output = self._network(torch.stack([self._transform(image) for image in images]).to(self._device))
        logits = output if self.task == "classification" else output["out"]
        return map_logits(logits, images, self.class_map, self._names)

    def saved(self, folder: Path) -> Self:
        """Returns this model with the weights of a folder."""
        return replace(self, checkpoint=str(folder / SAVED_WEIGHTS))

    @property
    def _is_file(self) -> bool:
        return bool(Path(self.checkpoint).suffix) or "/" in self.checkpoint or Path(self.checkpoint).is_file()

    def _load_file(self) -> Any:
        from torchvision import models

        setting = f"model.{self.name}.checkpoint"
        state = read_weights(self.checkpoint, setting)
        options = {} if self.task == "classification" else {"weights_backbone": None}
        network = models.get_model(self.model, num_classes=self.classes, **options)
        load_weights(
            network, state, f"{setting}={self.checkpoint}", ignore=["aux_classifier."]
        )  # for training only
        return network

    def _load_published(self, weights: Any) -> Any:
        import torch
        from torchvision import models

        try:
            return models.get_model(self.model, weights=weights)
        except OSError as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise NoWeights(
                f"The weights of {self.model} are not on this machine ({folder / Path(weights.url).name}) "
                "and could not be "
                f"downloaded ({error}).\n"
                f"Fetch {weights.url} and put it into {folder}, or give a file as "
                f"model.{self.name}.checkpoint, or use what "
                "needs no download: model=mini_segformer, or dataset=mini_imagenet model=mini_resnet."
            ) from error

    def _find_published(self, name: str) -> Any:
        """Returns an entry of the model's weights enum."""
        from torchvision import models

        module: ModuleType = models if self.task == "classification" else models.segmentation
        setting, names = f"model.{self.name}", models.list_models(module=module)
        if self.model not in names:
            raise UserError(
                f"{setting}.model={self.model}: torchvision has no such model for {self.task}; it has "
                f"{', '.join(names)}"
            )
        weights = models.get_model_weights(self.model)
        if name not in weights.__members__:
            options = ", ".join(weights.__members__)
            raise UserError(
                f"{setting}.checkpoint={name}: for {self.model} there are {options}, or give a file"
            )
        return weights[name]


@dataclass
class TorchvisionClassification(_Torchvision):
    """An image classifier of torchvision, with published weights or those of a file.

    `checkpoint` is a name of the model's weights enum (IMAGENET1K_V2, DEFAULT, ...), which brings its own
    preprocessing, or a file of weights (see `read_weights`) for `classes` classes, whose images are prepared
    as for DEFAULT. `class_map` is as in TransformersClassification.
    """

    task: ClassVar[str] = "classification"


@dataclass
class TorchvisionSegmentation(_Torchvision):
    """A semantic segmenter of torchvision; its published weights have the 21 classes of VOC.

    See TorchvisionClassification.
    """

    classes: Positive = 21
    batch_size: BatchSize = 4

    task: ClassVar[str] = "segmentation"
