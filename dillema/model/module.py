"""A network of the user as the model under test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from omegaconf import OmegaConf
from PIL import Image

from .. import hub
from ..config import Block, build
from ..errors import UserError
from ..fields import AboveZero, BatchSize, Positive, Transient, Weights
from .code import find_code_file
from .logits import ClassMap, map_logits
from .trainable import Trainable
from .weights import SAVED_WEIGHTS, check_archive, expand_home, first_line, load_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ModuleModel(Trainable):
    """A torch.nn.Module or LightningModule with the weights of a file, or a program that torch saved.

    `network` names the class (`_target_`) and its arguments; null for a program (TorchScript, or .pt2 of
    torch.export, which runs pickled code and needs `trust`). `checkpoint` is a file of weights (see
    `read_weights`); only names that begin with `prefix` are used, without the prefix. The network takes float
    images (images, 3, height, width): the shorter side is resized to `resize` pixels, the central `crop` by
    `crop` pixels are cut out, `mean` is subtracted, and the result is divided by `std`. It returns logits,
    (images, classes) or (images, classes, height, width), alone or as the entry "out" or "logits" of a
    mapping. `code` is the file whose changes make old predictions invalid (null: the file of the class).
    `class_map` is as in TransformersClassification.
    """

    name: Transient[str]
    network: Block | None
    checkpoint: Weights[str]
    prefix: str = ""
    resize: Positive | None = None
    crop: Positive | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[AboveZero, AboveZero, AboveZero] = (0.229, 0.224, 0.225)
    class_map: ClassMap | None = None
    code: Weights[str | None] = None
    trust: Transient[bool] = False
    batch_size: BatchSize = 8
    device: Transient[str] = "auto"

    version: ClassVar[int] = 2
    thread_safe: ClassVar[bool] = False  # a network of the user's may keep values between its layers
    class_names: ClassVar[Sequence[str]] = ()

    def __post_init__(self) -> None:
        """Finds the code, on which the predictions depend."""
        self.checkpoint = expand_home(self.checkpoint)
        if self.network is not None and self.code is None:
            self.code = find_code_file(self.network)

    def load(self) -> None:
        """Builds the network and loads its weights; raises a UserError when the two do not fit."""
        import torch
        from torchvision.transforms import v2

        self._device, _ = hub.placement(self.device, "float32")
        self._fixed_batch: int | None = None
        self._network = self._load_program() if self.network is None else self._load_network(self.network)
        steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(self.mean, self.std)]
        if self.crop is not None:
            steps.insert(1, v2.CenterCrop(self.crop))
        if self.resize is not None:
            steps.insert(1, v2.Resize(self.resize))
        self._transform = v2.Compose(steps)

    @property
    def trainable(self) -> bool:  # type: ignore[override]  # a program cannot change between training and use
        """Returns whether the model is a network and not a program."""
        return self.network is not None

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns the logits; see `Trainable`."""
        import torch

        pixels = torch.stack([self._transform(image) for image in images])
        size = self._fixed_batch or len(images)
        filling = pixels[-1:].expand(-len(images) % size, -1, -1, -1)
        parts = torch.cat([pixels, filling]).to(self._device).split(size)
        output = torch.cat([self._find_logits(self._network(part)) for part in parts])
        return map_logits(output[: len(images)], images, self.class_map)

    def saved(self, folder: Path) -> Self:
        """Returns this model with the weights of a folder."""
        return replace(self, checkpoint=str(folder / SAVED_WEIGHTS), prefix="")

    def _find_logits(self, output: Any) -> "Tensor":
        if isinstance(output, Mapping):
            output = output["out" if "out" in output else "logits"]
        logits: Tensor = output
        return logits

    def _load_program(self) -> Any:
        import torch

        setting = f"model.{self.name}"
        if not Path(self.checkpoint).is_file():
            raise UserError(f"{setting}.checkpoint={self.checkpoint}: there is no such file")
        if self.checkpoint.endswith(".pt2") and not self.trust:
            raise UserError(
                f"{setting}.checkpoint={self.checkpoint}: a .pt2 file runs pickled code when it is opened. "
                "If you trust "
                f"where it comes from, set {setting}.trust=true; TorchScript (.pt) and files of weights run "
                "none"
            )
        try:
            check_archive(self.checkpoint)
            if self.checkpoint.endswith(".pt2"):
                program = torch.export.load(self.checkpoint)
                first_input = program.graph_signature.user_inputs[0]
                images = next(node for node in program.graph.nodes if node.name == first_input)
                count = images.meta["val"].shape[0]
                # a program that was exported without dynamic shapes takes batches of one size
                self._fixed_batch = count if isinstance(count, int) else None
                return program.module().to(self._device)
            return torch.jit.load(self.checkpoint, map_location=self._device).eval()
        except Exception as error:
            raise UserError(
                f"{setting}.checkpoint={self.checkpoint} is no program of torch "
                f"({first_line(error)}); for a file "
                f"of weights say what they belong to, with {setting}.network._target_"
            ) from error

    def _load_network(self, block: Block) -> Any:
        setting = f"model.{self.name}.checkpoint"
        state = read_weights(self.checkpoint, setting)
        state = {
            name.removeprefix(self.prefix): v for name, v in state.items() if name.startswith(self.prefix)
        }
        if not state:
            raise UserError(
                f"model.{self.name}.prefix={self.prefix}: no weight in {self.checkpoint} begins so"
            )
        network = build(OmegaConf.create(dict(block)))
        load_weights(network, state, f"{setting}={self.checkpoint}")
        return network.to(self._device).eval()
