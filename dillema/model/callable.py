"""Any callable as the model under test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from omegaconf import OmegaConf
from PIL import Image

from ..config import Block, build
from ..errors import UserError
from . import ClassMap, answers, source

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class CallableModel:
    """What the user's function, or an object of the user's class, says about a list of RGB images.

    `function` names it (`_target_`) and its arguments. It returns logits or logarithms of probabilities, an array or tensor
    (images, classes) or (images, classes, height, width), or a list with one for each image. `code` is a file or folder
    whose changes make old predictions obsolete (null: the file that holds the function; name its weights if it has any).
    `class_map` is as in TransformersClassification.
    """

    name: str
    function: Block
    class_map: ClassMap | None = None
    code: str | None = None
    batch_size: int = 8

    transient: ClassVar[tuple[str, ...]] = ("name", "batch_size")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("code",)

    def __post_init__(self) -> None:
        """Finds the code, which is part of what the predictions depend on."""
        if self.code is None:
            self.code = source(self.function)

    def load(self) -> None:
        """Makes the callable."""
        self._function = build(OmegaConf.create(dict(self.function)))

    def predict(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns logits as `dillema.model` says; raises a UserError when the callable returns something else."""
        import torch

        output = self._function(list(images))
        logits = torch.stack([torch.as_tensor(one) for one in output])
        if len(logits) != len(images) or logits.ndim not in (2, 4):
            raise UserError(
                f"model.{self.name}: {self.function['_target_']} returned an array of {tuple(logits.shape)} for {len(images)} images; "
                "expected (images, classes) or (images, classes, height, width)"
            )
        return answers(logits.cpu(), images, self.class_map)
