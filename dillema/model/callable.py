"""Any callable as the model under test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from omegaconf import OmegaConf
from PIL import Image

from ..config import Block, build
from ..errors import UserError
from ..fields import BatchSize, Transient, Weights
from .code import find_code_file
from .logits import ClassMap, finish_prediction, map_logits

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class CallableModel:
    """A function of the user's, or an object of the user's class, that takes a list of RGB images.

    `function` names it (`_target_`) and its arguments. It returns logits or logarithms of probabilities, an
    array or tensor (images, classes) or (images, classes, height, width), or a list with one for each image.
    `code` is a file or folder whose changes make old predictions invalid (null: the file of the function;
    name its weights if it has any). `class_map` is as in TransformersClassification.
    """

    name: Transient[str]
    function: Block
    class_map: ClassMap | None = None
    code: Weights[str | None] = None
    batch_size: BatchSize = 8

    version: ClassVar[int] = 1
    class_names: ClassVar[Sequence[str]] = ()

    def __post_init__(self) -> None:
        """Finds the code, on which the predictions depend."""
        if self.code is None:
            self.code = find_code_file(self.function)

    def load(self) -> None:
        """Makes the callable."""
        self._function = build(OmegaConf.create(dict(self.function)))

    def predict(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns the logits of each image; raises a UserError if the callable returns anything else."""
        import torch

        output = self._function(list(images))
        logits = torch.stack([torch.as_tensor(values) for values in output])
        if len(logits) != len(images) or logits.ndim not in (2, 4):
            raise UserError(
                f"model.{self.name}: {self.function['_target_']} returned an array of {tuple(logits.shape)} "
                "for "
                f"{len(images)} images; expected (images, classes) or (images, classes, height, width)"
            )
        return finish_prediction(map_logits(logits.cpu(), images, self.class_map))
