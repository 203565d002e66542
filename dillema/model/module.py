"""A network of the user's own as the model under test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from omegaconf import OmegaConf
from PIL import Image

from .. import hub
from ..config import Block, build
from ..errors import UserError
from . import WEIGHTS, ClassMap, Trainable, answers, read_weights, source

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ModuleModel(Trainable):
    """A torch.nn.Module or LightningModule with the weights of a file, or a program that torch saved (TorchScript, or torch.export's .pt2).

    `network` names the class (`_target_`) and its arguments; null for a program. `checkpoint` is a state dict (.safetensors,
    .pth) or a checkpoint of Lightning, without pickled code; of its keys those that begin with `prefix` are taken, less the
    prefix. The network takes float images (images, 3, height, width): the shorter side brought to `resize` pixels, the middle
    `crop` by `crop` of them, less `mean`, over `std`. It returns logits, (images, classes) or (images, classes, height, width),
    alone or as the entry "out" or "logits" of a mapping. `code` is the file whose changes make old predictions obsolete
    (null: the one that holds the class). `class_map` is as in TransformersClassification.
    """

    name: str
    network: Block | None
    checkpoint: str
    prefix: str = ""
    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    class_map: ClassMap | None = None
    code: str | None = None
    batch_size: int = 8
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("name", "batch_size", "device")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("checkpoint", "code")

    def __post_init__(self) -> None:
        """Finds the code, which is part of what the predictions depend on."""
        if self.network is not None and self.code is None:
            self.code = source(self.network)

    def load(self) -> None:
        """Builds the network and loads its weights; raises a UserError when the two do not fit."""
        import torch
        from torchvision.transforms import v2

        self._device, _ = hub.placement(self.device, "float32")
        setting = f"model.{self.name}.checkpoint"
        if self.network is None:
            try:
                if self.checkpoint.endswith(".pt2"):
                    self._network = torch.export.load(self.checkpoint).module().to(self._device)
                else:
                    self._network = torch.jit.load(self.checkpoint, map_location=self._device).eval()
            except Exception as error:
                raise UserError(
                    f"{setting}={self.checkpoint} is no program of torch ({str(error).splitlines()[0]}); for a file of weights say what they belong to, "
                    f"with model.{self.name}.network._target_"
                ) from error
        else:
            state = {k.removeprefix(self.prefix): v for k, v in read_weights(self.checkpoint, setting).items() if k.startswith(self.prefix)}
            network = build(OmegaConf.create(dict(self.network)))
            try:
                network.load_state_dict(state)
            except Exception as error:
                raise UserError(f"{setting}={self.checkpoint} does not fit {type(network).__name__}: {error}") from error
            self._network = network.to(self._device).eval()
        steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(self.mean, self.std)]
        if self.crop is not None:
            steps.insert(1, v2.CenterCrop(self.crop))
        if self.resize is not None:
            steps.insert(1, v2.Resize(self.resize))
        self._transform = v2.Compose(steps)

    @property
    def trainable(self) -> bool:  # type: ignore[override]  # a program cannot change between training and use
        """Returns whether there is a network, and not a program."""
        return self.network is not None

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns logits as Trainable says."""
        import torch

        pixels = torch.stack([self._transform(image) for image in images])
        output: Any = self._network(pixels.to(self._device))
        if isinstance(output, Mapping):
            output = output["out" if "out" in output else "logits"]
        return answers(output, images, self.class_map)

    def saved(self, folder: Path) -> Self:
        """Returns this model with the weights of a folder."""
        return replace(self, checkpoint=str(folder / WEIGHTS), prefix="")
