"""Generates images with a model that edits the source image by an instruction, without a ControlNet."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from PIL import Image

from .. import hub
from ..errors import ItemError, UserError
from ..fields import BatchSize, Constraint, Positive, Transient, Weights
from ..image_size import ImageSize
from ..types import Control, Counterfactual, Edit, Sample
from .diffusers import ALTERNATIVE, Offload, ShortSide, check_sides, move_to_device, noise, to_images

# these models round other sizes, and the labels would then not fit
Side = Annotated[int, Constraint("that is a multiple of 16", lambda value: value > 0 and value % 16 == 0)]


@dataclass
class EditingGenerator:
    """An editing pipeline of diffusers, such as FLUX.1 Kontext.

    It takes the source image and an instruction made from the edits; it uses no control images.

    Attributes:
        model: A folder or a hub id.
        arguments: Further arguments of the pipeline, such as guidance, whose name differs by pipeline.
        width: Pixels; None, together with `height`, keeps the proportions of each source.
        height: Pixels, or None.
        short_side: Pixels of the shorter side, where the proportions are kept.
        offload: See `Offload`; saves memory and costs time, as do slicing and tiling.
    """

    model: Weights[str]
    arguments: dict[str, Any] = field(default_factory=dict)
    width: Side | None = 1024
    height: Side | None = 1024
    short_side: ShortSide = 1024
    steps: Positive = 28
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"
    offload: Transient[Offload] = None
    slicing: Transient[bool] = False
    tiling: bool = False
    batch_size: BatchSize = 1

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Raises a UserError for a width without a height."""
        check_sides(self.width, self.height)

    def load(self) -> None:
        """Loads the pipeline; raises a UserError for one that does not edit or take the arguments."""
        import diffusers

        device, dtype = hub.placement(self.device, self.dtype)
        pipeline = hub.load(diffusers.DiffusionPipeline, self.model, ALTERNATIVE, dtype=dtype)
        parameters = inspect.signature(pipeline.__call__).parameters
        if unknown := {"image", "prompt", "width", "height", *self.arguments} - parameters.keys():
            raise UserError(
                f"{self.model} is a {type(pipeline).__name__}, which takes no {', '.join(sorted(unknown))}: "
                "see generator.model, generator.arguments"
            )
        self._has_area = "max_area" in parameters  # without it, Kontext chooses its own sizes
        move_to_device(pipeline, device, self.offload, self.slicing, self.tiling)
        self._pipeline = pipeline

    def generate(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        controls: Sequence[Mapping[str, Control]],
        seeds: Sequence[int],
    ) -> list[Image.Image | ItemError]:
        """Returns one image a counterfactual; an ItemError for one that holds NaN or is black."""
        results = []
        image_size = ImageSize(self.width, self.height, self.short_side)
        for sample, counterfactual, generator in zip(samples, counterfactuals, noise(seeds), strict=True):
            source = sample.image
            width, height = image_size.of(source.size)
            area = {"max_area": width * height, "_auto_resize": False} if self._has_area else {}
            output = self._pipeline(
                image=source.resize((width, height), Image.Resampling.LANCZOS),
                prompt=instruction(counterfactual),
                width=width,
                height=height,
                num_inference_steps=self.steps,
                generator=generator,
                output_type="pt",
                **self.arguments,
                **area,
            )
            results += to_images(output.images, [False])
        return results


def instruction(counterfactual: Counterfactual) -> str:
    """Returns the instruction for the editing model; for a placebo, to leave the image as it is."""
    if not counterfactual.edits:
        return f"Change nothing. The image shows: {counterfactual.text}. Leave every object where it is."
    changes = ", and ".join(_change(edit) for edit in counterfactual.edits)
    return (
        f"Change {changes}. The image then shows: {counterfactual.text}. "
        "Leave every object where it is, with its size and its shape."
    )


def _change(edit: Edit) -> str:
    if not edit.original:  # the caption did not name the attribute
        return f"the {edit.attribute} to {edit.words}"
    return f"the {edit.attribute} from {edit.original} to {edit.words}"
