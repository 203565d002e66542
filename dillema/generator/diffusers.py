"""Images by a Stable Diffusion pipeline with a ControlNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from .. import hub
from ..errors import ItemError, UserError
from ..types import Control

BLACK = 2 / 255  # an image without a brighter value is what a failed decoder or a safety checker leaves


@dataclass
class ControlNetGenerator:
    """A Stable Diffusion checkpoint with a ControlNet, from folders or the hub.

    `controlnet` names the ControlNet where the checkpoint `model` does not hold one, `scheduler` a scheduler class of
    diffusers that replaces the checkpoint's and takes over its settings. A control image and a prompt make one image of
    `width` by `height` pixels. `offload` keeps on the GPU only the part of the pipeline that is at work.
    """

    model: str
    controlnet: str | None = None
    width: int = 512
    height: int = 512
    steps: int = 20
    guidance: float = 7.5
    negative_prompt: str = ""
    scheduler: str | None = None
    safety_checker: bool = False
    dtype: hub.DType = "float32"
    device: str = "auto"
    offload: bool = False
    batch_size: int = 4

    transient: ClassVar[tuple[str, ...]] = ("device", "offload", "batch_size")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("model", "controlnet")

    def load(self) -> None:
        """Loads the pipeline; raises a UserError for a scheduler that diffusers lacks or a safety checker that the checkpoint lacks."""
        import diffusers

        device, dtype = hub.placement(self.device, self.dtype)
        instead = "generator=mini"
        options: dict[str, Any] = {"dtype": dtype}
        if self.controlnet is not None:
            options["controlnet"] = hub.load(diffusers.ControlNetModel, self.controlnet, instead, dtype=dtype)
        if not self.safety_checker:
            options |= {"safety_checker": None, "requires_safety_checker": False}
        pipeline = hub.load(diffusers.StableDiffusionControlNetPipeline, self.model, instead, **options)
        if self.safety_checker and pipeline.safety_checker is None:
            raise UserError(f"generator.safety_checker=true: {self.model} holds no safety checker")
        if self.scheduler is not None:
            kind = getattr(diffusers, self.scheduler, None)
            if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
                raise UserError(f"generator.scheduler={self.scheduler}: diffusers {diffusers.__version__} has no such scheduler")
            pipeline.scheduler = kind.from_config(pipeline.scheduler.config)  # type: ignore[attr-defined]  # every scheduler has it
        pipeline.set_progress_bar_config(disable=True)
        if self.offload:
            pipeline.enable_model_cpu_offload()
        else:
            pipeline.to(device)
        self._pipeline = pipeline

    def generate(self, prompts: Sequence[str], controls: Sequence[Control], seeds: Sequence[int]) -> list[Image.Image | ItemError]:
        """Returns one image a prompt, made in one batch; in the place of an image that failed stands an ItemError.

        All controls must have one weight. The noise of each image comes from its own seed, drawn on the CPU, so it
        depends neither on the batch nor on the device. An image fails when it holds NaN, is black, or was withheld by the safety checker.
        """
        import torch

        (weight,) = {control.weight for control in controls}
        output = self._pipeline(
            prompt=list(prompts),
            negative_prompt=[self.negative_prompt] * len(prompts),
            image=[control.image for control in controls],
            width=self.width,
            height=self.height,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            controlnet_conditioning_scale=float(weight),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            output_type="np",
        )
        flags = output.nsfw_content_detected or [False] * len(prompts)
        return [_image(pixels, flag) for pixels, flag in zip(output.images, flags, strict=True)]


def _image(pixels: np.ndarray, flagged: bool) -> Image.Image | ItemError:
    if flagged:
        return ItemError("the safety checker withheld the generated image")
    if not np.isfinite(pixels).all():
        return ItemError("the generated image holds values that are not numbers (with dtype float16, try bfloat16 or float32)")
    if pixels.max() < BLACK:
        return ItemError("the generated image is black")
    return Image.fromarray((pixels * 255).round().astype(np.uint8))
