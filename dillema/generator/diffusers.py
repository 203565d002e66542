"""Images by a Stable Diffusion pipeline with one or several ControlNets."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from .. import hub
from ..conditioning.several import parts
from ..errors import ItemError, UserError
from ..types import Control, Counterfactual, Sample

Offload = Literal["model", "sequential"] | None
"""What is on the GPU: the model that is at work, the layer that is at work, or (None) everything."""

INSTEAD = "generator=mini"
BLACK = 2 / 255  # an image without a brighter value is what a failed decoder or a safety checker leaves
LORA = re.compile(r"(?:lora_unet_|unet\.)(.+?)\.(?:lora[._])?(alpha|down|up|A|B)(?:\.weight)?")


@dataclass
class ControlNetGenerator:
    """A checkpoint of Stable Diffusion (1.5 or XL) with ControlNets, from folders or the hub.

    `controlnet` names the ControlNet of each kind of conditioning, for checkpoints `model` that hold none; those that
    `conditioning` asks for are loaded. `strength` starts from the source image under so much noise (0 to 1), not from noise
    alone. `lora` is a file of low-rank changes to the UNet, `vae` an autoencoder that replaces the checkpoint's, `scheduler`
    a class of diffusers that replaces its scheduler and takes over its settings. `slicing` computes attention and decoding
    piece by piece and `tiling` decodes in tiles, which can be seen: both save memory and cost time, as does `offload`.
    """

    model: str
    controlnet: dict[str, str] | None = None
    conditioning: Any = None
    width: int = 512
    height: int = 512
    steps: int = 20
    guidance: float = 7.5
    negative_prompt: str = ""
    strength: float | None = None
    scheduler: str | None = None
    lora: str | None = None
    vae: str | None = None
    safety_checker: bool = False
    dtype: hub.DType = "float32"
    device: str = "auto"
    offload: Offload = None
    slicing: bool = False
    tiling: bool = False
    batch_size: int = 4

    transient: ClassVar[tuple[str, ...]] = ("conditioning", "device", "offload", "slicing", "batch_size")
    version: ClassVar[int] = 2
    weights: ClassVar[tuple[str, ...]] = ("model", "controlnet", "lora", "vae")

    def __post_init__(self) -> None:
        """Refuses a strength that leaves no step to do."""
        if self.strength is not None and not (0 < self.strength <= 1 and int(self.strength * self.steps) > 0):
            raise UserError(f"generator.strength={self.strength}: must be above 0, at most 1, and leave one of the {self.steps} steps; null starts from noise")

    def load(self) -> None:
        """Loads the pipeline; raises a UserError where the checkpoint lacks a ControlNet, a safety checker or what the LoRA changes."""
        import diffusers

        device, dtype = hub.placement(self.device, self.dtype)
        options: dict[str, Any] = {"dtype": dtype}
        if self.controlnet is not None:
            nets = [hub.load(diffusers.ControlNetModel, name, INSTEAD, dtype=dtype) for name in self._controlnets().values()]
            options["controlnet"] = nets if len(nets) > 1 else nets[0]
        if self.vae is not None:
            options["vae"] = hub.load(diffusers.AutoencoderKL, self.vae, INSTEAD, dtype=dtype)
        if not self.safety_checker:
            options |= {"safety_checker": None, "requires_safety_checker": False}
        kind = diffusers.AutoPipelineForText2Image if self.strength is None else diffusers.AutoPipelineForImage2Image
        pipeline = hub.load(kind, self.model, INSTEAD, **options)
        if getattr(pipeline, "controlnet", None) is None:
            raise UserError(f"{self.model} holds no ControlNet: set generator.controlnet")
        if self.controlnet is None and self.conditioning is not None and (count := len(parts(self.conditioning))) != 1:
            raise UserError(f"{self.model} holds one ControlNet, and {count} conditionings are set: use one, or set generator.controlnet")
        if self.safety_checker and getattr(pipeline, "safety_checker", None) is None:
            raise UserError(f"generator.safety_checker=true: {self.model} holds no safety checker")
        if self.scheduler is not None:
            scheduler = getattr(diffusers, self.scheduler, None)
            if not (isinstance(scheduler, type) and issubclass(scheduler, diffusers.SchedulerMixin)):
                raise UserError(f"generator.scheduler={self.scheduler}: diffusers {diffusers.__version__} has no such scheduler")
            pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)  # type: ignore[attr-defined]  # every scheduler has it
        if self.lora is not None:
            merge(pipeline.unet, hub.file(self.lora, INSTEAD))
        place(pipeline, device, self.offload, self.slicing, self.tiling)
        self._pipeline = pipeline

    def generate(
        self, samples: Sequence[Sample], counterfactuals: Sequence[Counterfactual], controls: Sequence[Mapping[str, Control]], seeds: Sequence[int]
    ) -> list[Image.Image | ItemError]:
        """Returns one image a counterfactual, made in one batch; in the place of an image that failed stands an ItemError.

        The controls of one kind must have one weight. The noise of each image comes from its own seed, drawn on the CPU, so it
        depends neither on the batch nor on the device. An image fails when it holds NaN, is black, or was withheld by the safety checker.
        """
        names = list(self._controlnets() or controls[0])
        stacks, weights = [], []
        for name in names:
            stacks.append(_stack([given[name].image for given in controls]))
            (weight,) = {given[name].weight for given in controls}
            weights.append(float(weight))
        structure, weighing = (stacks, weights) if len(names) > 1 else (stacks[0], weights[0])
        images: dict[str, Any] = {"image": structure}
        if self.strength is not None:
            images = {"image": [resized(sample, self.width, self.height) for sample in samples], "control_image": structure, "strength": self.strength}
        output = self._pipeline(
            prompt=[counterfactual.text for counterfactual in counterfactuals],
            negative_prompt=[self.negative_prompt] * len(samples),
            **images,
            width=self.width,
            height=self.height,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            controlnet_conditioning_scale=weighing,
            generator=noise(seeds),
            output_type="np",
        )
        flags = getattr(output, "nsfw_content_detected", None) or [False] * len(samples)
        return [checked(pixels, flag) for pixels, flag in zip(output.images, flags, strict=True)]

    def downloads(self) -> list[str]:
        """Returns what `load` opens: folders, files, and their like on the hub."""
        return [name for name in (self.model, *self._controlnets().values(), self.lora, self.vae) if name is not None]

    def _controlnets(self) -> dict[str, str]:
        """Returns the ControlNets in use by what they follow; none when the checkpoint holds its own."""
        known = self.controlnet or {}
        if self.controlnet is None or self.conditioning is None:
            return known
        if not (wanted := list(parts(self.conditioning))):
            raise UserError("a ControlNet follows a control image, and conditioning=none gives none: choose another conditioning")
        if absent := [name for name in wanted if name not in known]:
            raise UserError(f"generator.controlnet names none for {absent[0]}, but for {', '.join(known)}: set generator.controlnet.{absent[0]}")
        return {name: known[name] for name in wanted}


def place(pipeline: Any, device: str, offload: Offload, slicing: bool, tiling: bool) -> None:
    """Brings a pipeline of diffusers to a device; nothing is offloaded from a CPU."""
    pipeline.set_progress_bar_config(disable=True)
    if slicing:
        pipeline.enable_attention_slicing()
        pipeline.vae.enable_slicing()
    if tiling:
        pipeline.vae.enable_tiling()
    if offload is None or device == "cpu":
        pipeline.to(device)
    elif offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def noise(seeds: Sequence[int]) -> list[Any]:
    """Returns a generator of random numbers for each image, on the CPU: other devices draw other numbers."""
    import torch

    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def resized(sample: Sample, width: int, height: int) -> Image.Image:
    """Returns the source image at the size of the generated one."""
    return sample.image.resize((width, height), Image.Resampling.LANCZOS)


def checked(pixels: np.ndarray, flagged: bool = False) -> Image.Image | ItemError:
    """Returns the image (height, width, 3; 0 to 1), or an ItemError that says why it is none."""
    if flagged:
        return ItemError("the safety checker withheld the generated image")
    if not np.isfinite(pixels).all():
        return ItemError("the generated image holds values that are not numbers (with dtype float16, try bfloat16 or float32)")
    if pixels.max() < BLACK:
        return ItemError("the generated image is black")
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def merge(unet: Any, path: Path) -> None:
    """Adds low-rank changes (Hu et al., ICLR 2022) to the weights of a UNet; raises a UserError for those of another network."""
    import torch
    from safetensors.torch import load_file

    modules = {name.replace(".", "_"): module for name, module in unet.named_modules()}
    changes: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, value in load_file(path).items():
        match = LORA.fullmatch(key)
        if match is None or (name := match[1].replace(".", "_")) not in modules:
            raise UserError(f"generator.lora={path} does not fit the UNet of generator.model: it changes {key}")
        changes[name][{"A": "down", "B": "up"}.get(match[2], match[2])] = value.float()
    for name, change in changes.items():
        weight, down = modules[name].weight, change["down"]
        scale = change["alpha"].item() / len(down) if "alpha" in change else 1.0
        full = scale * change["up"].flatten(1) @ down.flatten(1)  # of a convolution, too: its `up` is 1 by 1
        weight.data = (weight.data.float() + full.view_as(weight)).to(weight.dtype)


def _stack(images: Sequence[Image.Image]) -> Any:
    """Returns control images as a tensor (n, 3, height, width), 0 to 1: the one form that all pipelines take for several ControlNets and a batch."""
    import torch

    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 255
