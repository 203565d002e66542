"""Models under test from torchvision."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from .. import hub
from ..errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TorchvisionClassification:
    """An image classifier of torchvision, with published weights or those of a file.

    `checkpoint` is a name of the model's weights enum (IMAGENET1K_V2, DEFAULT, ...), which brings its own preprocessing,
    or a state dict (.safetensors, or .pth without pickled code) for `classes` classes, before which images are resized to 256,
    cropped to 224 and normalised as usual for ImageNet.
    """

    name: str
    model: str
    checkpoint: str = "DEFAULT"
    classes: int = 1000
    batch_size: int = 16
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("name", "batch_size", "device")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("checkpoint",)

    def load(self) -> None:
        """Loads the model; raises a UserError for names that torchvision lacks and for weights that cannot be had."""
        import torch
        from safetensors.torch import load_file
        from torchvision import models

        if self.model not in models.list_models(module=models):
            raise UserError(f"model.model={self.model}: torchvision has no such classifier")
        path = Path(self.checkpoint)
        if path.suffix:
            if not path.is_file():
                raise UserError(f"model.checkpoint={self.checkpoint}: there is no such file")
            network = models.get_model(self.model, num_classes=self.classes)
            try:
                network.load_state_dict(load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True))
            except Exception as error:
                raise UserError(f"model.checkpoint={self.checkpoint} does not hold the weights of {self.model}: {error}") from error
            self._transform = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
        else:
            known = models.get_model_weights(self.model)
            if self.checkpoint not in known.__members__:
                raise UserError(f"model.checkpoint={self.checkpoint}: for {self.model} there are {', '.join(known.__members__)}, or give a file")
            weights = known[self.checkpoint]
            try:
                network = models.get_model(self.model, weights=weights)
            except OSError as error:
                folder = Path(torch.hub.get_dir()) / "checkpoints"
                raise UserError(
                    f"The weights of {self.model} are not on this machine and could not be downloaded ({error}).\n"
                    f"Fetch {weights.url} and put it into {folder}, or give a file as model.checkpoint, or use what needs no download: "
                    "dataset=mini_imagenet model=mini_resnet."
                ) from error
            self._transform = weights.transforms()
        self._device, _ = hub.placement(self.device, "float32")
        self._network = network.to(self._device).eval()

    def predict(self, images: Sequence[Image.Image]) -> "Tensor":
        """Returns logits (images, classes), float32, on the CPU."""
        import torch

        pixels = torch.stack([self._transform(image) for image in images])
        with torch.inference_mode():
            logits: Tensor = self._network(pixels.to(self._device)).cpu()
        return logits
