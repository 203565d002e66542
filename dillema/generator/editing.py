"""Images by a model that edits the source image as it is told, without a ControlNet."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from PIL import Image

from .. import hub
from ..errors import ItemError, UserError
from ..types import Control, Counterfactual, Sample
from .diffusers import INSTEAD, Offload, checked, noise, place, resized


@dataclass
class EditingGenerator:
    """An editing pipeline of diffusers (FLUX.1 Kontext and its like), from a folder or the hub.

    It sees the source image and an instruction that is made of the edits; control images are not used. `arguments` go to
    the pipeline as they are: how guidance is called differs from one to the next.
    """

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    width: int = 1024
    height: int = 1024
    steps: int = 28
    dtype: hub.DType = "float32"
    device: str = "auto"
    offload: Offload = None
    slicing: bool = False
    tiling: bool = False
    batch_size: int = 1

    transient: ClassVar[tuple[str, ...]] = ("device", "offload", "slicing", "batch_size")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("model",)

    def __post_init__(self) -> None:
        """Refuses a size that these models would round, so that the labels would no longer fit."""
        if self.width % 16 or self.height % 16:
            raise UserError(f"generator.width={self.width}, generator.height={self.height}: must be multiples of 16")

    def load(self) -> None:
        """Loads the pipeline; raises a UserError for one that does not edit, or does not take the arguments."""
        import diffusers

        device, dtype = hub.placement(self.device, self.dtype)
        pipeline = hub.load(diffusers.DiffusionPipeline, self.model, INSTEAD, dtype=dtype)
        takes = inspect.signature(pipeline.__call__).parameters
        if unknown := {"image", "prompt", "width", "height", *self.arguments} - takes.keys():
            raise UserError(
                f"{self.model} is a {type(pipeline).__name__}, which takes no {', '.join(sorted(unknown))}: see generator.model, generator.arguments"
            )
        self._arguments = dict(self.arguments)
        if "max_area" in takes:  # Kontext would otherwise choose sizes of its own
            self._arguments |= {"max_area": self.width * self.height, "_auto_resize": False}
        place(pipeline, device, self.offload, self.slicing, self.tiling)
        self._pipeline = pipeline

    def generate(
        self, samples: Sequence[Sample], counterfactuals: Sequence[Counterfactual], controls: Sequence[Mapping[str, Control]], seeds: Sequence[int]
    ) -> list[Image.Image | ItemError]:
        """Returns one image a counterfactual, made one by one; in the place of an image that holds NaN or is black stands an ItemError."""
        return [
            checked(
                self._pipeline(
                    image=resized(sample, self.width, self.height),
                    prompt=instruction(counterfactual),
                    width=self.width,
                    height=self.height,
                    num_inference_steps=self.steps,
                    generator=generator,
                    output_type="np",
                    **self._arguments,
                ).images[0]
            )
            for sample, counterfactual, generator in zip(samples, counterfactuals, noise(seeds), strict=True)
        ]


def instruction(counterfactual: Counterfactual) -> str:
    """Returns what an editing model is told to do."""
    changes = ", and ".join(f"the {e.attribute} from {e.original} to {e.replacement}" for e in counterfactual.edits)
    return f"Change {changes}. The image then shows: {counterfactual.text}. Leave every object where it is, with its size and its shape."
