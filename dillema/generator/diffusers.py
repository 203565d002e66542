"""Generates images with a Stable Diffusion pipeline and one or several ControlNets."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from PIL import Image

from .. import hub
from ..conditioning.several import conditionings_by_name
from ..errors import ItemError, UserError
from ..fields import BatchSize, Constraint, Positive, Share, Transient, Weight, Weights
from ..image_size import MULTIPLE, Size
from ..types import Control, Counterfactual, Sample

if TYPE_CHECKING:
    from torch import Tensor


Offload = Literal["model", "sequential"] | None
"""What the GPU holds: the model in use ("model"), the layer in use ("sequential"), or all (None)."""
Request = tuple[Sample, Counterfactual, Mapping[str, Control], int]
"""The input of one image: sample, counterfactual, control images and seed."""
Side = Annotated[int, Constraint("that is a multiple of 8", lambda value: value > 0 and value % 8 == 0)]
ShortSide = Annotated[
    int, Constraint("that is a multiple of 64", lambda value: value > 0 and value % MULTIPLE == 0)
]
Strength = Annotated[float, Constraint("above 0 and at most 1", lambda value: 0 < value <= 1)]

log = logging.getLogger(__name__)
ALTERNATIVE = "generator=mini"
DARKEST = 2 / 255  # the brightest value of an image after a failed decoder or a safety checker
LORA_UP = re.compile(r"lora[._](up|B)\b|lora_linear_layer\.up\b")  # one tensor of each layer of a LoRA


@dataclass
class ControlNetGenerator:
    """A checkpoint of Stable Diffusion (1.5 or XL) with ControlNets.

    Attributes:
        model: A folder or a hub id.
        controlnet: The ControlNet of each conditioning, for a checkpoint without ControlNets; only those of
            `conditioning` are loaded.
        trained_on: The conditioning that the checkpoint's own ControlNet was trained on, if that is known;
            another one is warned about.
        control_weight: A factor for the weights of all control images.
        width: Pixels; None, together with `height`, keeps the proportions of each source.
        height: Pixels, or None.
        short_side: Pixels of the shorter side, where the proportions are kept.
        guidance: The scale of classifier-free guidance; 1 uses no negative prompt and takes half the time.
        guidance_share: The share of the steps, counted from the first, that use guidance.
        strength: Starts from the source image with this share of the noise; None starts from noise only.
        scheduler: A class of diffusers that replaces the checkpoint's scheduler and keeps its settings.
        lora: A file of low-rank changes that are added to the weights of the networks.
        vae: An autoencoder that replaces the checkpoint's.
        offload: See `Offload`; saves memory and costs time, as do slicing and tiling.
        slicing: Computes attention and decoding piece by piece.
        tiling: Decodes in tiles; their borders can be visible.
        compile: Compiles the networks (torch.compile), which takes minutes in the first run; the compiler
            keeps its results on the disk (TORCHINDUCTOR_CACHE_DIR).
    """

    model: Weights[str]
    controlnet: Weights[dict[str, str] | None] = None
    conditioning: Transient[Any] = None
    trained_on: Transient[str | None] = None
    control_weight: Weight = 1.0
    width: Side | None = 512
    height: Side | None = 512
    short_side: ShortSide = 512
    steps: Positive = 20
    guidance: Weight = 7.5
    guidance_share: Share = 1.0
    negative_prompt: str = ""
    strength: Strength | None = None
    scheduler: str | None = None
    lora: Weights[str | None] = None
    vae: Weights[str | None] = None
    safety_checker: bool = False
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"
    offload: Transient[Offload] = None
    slicing: Transient[bool] = False
    tiling: bool = False
    compile: Transient[bool] = False
    batch_size: BatchSize = 4

    version: ClassVar[int] = 3

    def __post_init__(self) -> None:
        """Raises a UserError for a strength that leaves no step, or a width without a height."""
        check_sides(self.width, self.height)
        if self.strength is not None and int(self.strength * self.steps) == 0:
            raise UserError(
                f"generator.strength={self.strength}: must leave one of the {self.steps} steps; "
                "null starts from noise"
            )

    def load(self) -> None:
        """Loads the pipeline.

        Raises a UserError if the checkpoint lacks a ControlNet, a safety checker or a layer of the LoRA.
        """
        import torch

        from .speed import GuidanceLimit, TextEmbeddings, prepare

        device, dtype = hub.placement(self.device, self.dtype)
        pipeline = self.open_pipeline(dtype)
        if self.lora is not None:
            merge(pipeline, hub.file(self.lora, ALTERNATIVE))
        prepare(pipeline, self.compile)
        move_to_device(pipeline, device, self.offload, self.slicing, self.tiling)
        self._pipeline = pipeline
        self._embeddings = TextEmbeddings(pipeline)
        self._limit: GuidanceLimit | None = None
        if self.guidance_share < 1:
            self._limit = GuidanceLimit(pipeline, self.guidance_share)
        self._is_on_cpu = torch.device(device).type == "cpu"

    def generate(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        controls: Sequence[Mapping[str, Control]],
        seeds: Sequence[int],
    ) -> list[Image.Image | ItemError]:
        """Returns one image a counterfactual; an ItemError for one that holds NaN, is black or was withheld.

        All controls of one conditioning must have the same weight. The noise of each image is drawn on the
        CPU from its own seed, so it depends neither on the batch nor on the device.
        """
        batch = list(zip(samples, counterfactuals, controls, seeds, strict=True))
        if not self._is_on_cpu:
            return self._paint(self._pipeline, batch)
        from .speed import paint_side_by_side

        images = paint_side_by_side(self._pipeline, self._paint, [[request] for request in batch])
        return [image for (image,) in images]

    def _paint(self, pipeline: Any, batch: Sequence[Request]) -> list[Image.Image | ItemError]:
        """Returns the images of one call of the pipeline."""
        from .speed import controlnets

        texts = [counterfactual.text for _, counterfactual, _, _ in batch]
        try:
            width, height = self._size(batch[0])
            output = pipeline(
                **self._embeddings.arguments(texts, self.negative_prompt),
                **self._image_arguments(batch),
                **(self._limit.arguments() if self._limit else {}),
                width=width,
                height=height,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance if self.guidance_share > 0 else 1.0,
                generator=noise([seed for *_, seed in batch]),
                output_type="pt",
            )
        finally:
            for controlnet in controlnets(pipeline):
                controlnet.controlnet_cond_embedding.clear()
        withheld = getattr(output, "nsfw_content_detected", None) or [False] * len(batch)
        return to_images(output.images, withheld)

    def downloads(self) -> list[str]:
        """Returns the folders, files and hub ids that `load` opens."""
        names = (self.model, *self._controlnets().values(), self.lora, self.vae)
        return [name for name in names if name is not None]

    def open_pipeline(self, dtype: Any) -> Any:
        """Returns the pipeline, with its ControlNets, autoencoder and scheduler."""
        import diffusers

        from . import pixels  # noqa: F401  # diffusers opens parts of a pipeline of imported modules alone

        options: dict[str, Any] = {"dtype": dtype}
        if self.controlnet is not None:
            names = self._controlnets().values()
            nets = [hub.load(diffusers.ControlNetModel, name, ALTERNATIVE, dtype=dtype) for name in names]
            options["controlnet"] = nets if len(nets) > 1 else nets[0]
        if self.vae is not None:
            options["vae"] = hub.load(diffusers.AutoencoderKL, self.vae, ALTERNATIVE, dtype=dtype)
        if not self.safety_checker:
            options |= {"safety_checker": None, "requires_safety_checker": False}
        is_from_noise = self.strength is None
        kind = diffusers.AutoPipelineForText2Image if is_from_noise else diffusers.AutoPipelineForImage2Image
        pipeline = hub.load(kind, self.model, ALTERNATIVE, **options)
        self._check(pipeline)
        if self.scheduler is not None:
            pipeline.scheduler = _scheduler(self.scheduler, pipeline.scheduler)
        return pipeline

    def _check(self, pipeline: Any) -> None:
        """Raises a UserError if the checkpoint lacks a part that the settings need."""
        if getattr(pipeline, "controlnet", None) is None:
            raise UserError(f"{self.model} holds no ControlNet: set generator.controlnet")
        if self.controlnet is None and self.conditioning is not None:
            count = len(conditionings_by_name(self.conditioning))
            if count != 1:
                raise UserError(
                    f"{self.model} holds one ControlNet, and {count} conditionings are set: "
                    "use one, or set generator.controlnet"
                )
            if self.trained_on not in (None, *conditionings_by_name(self.conditioning)):
                log.warning(
                    "the ControlNet in %s was trained on conditioning=%s: its images with conditioning=%s "
                    "may have little to do with captions and labels",
                    self.model, self.trained_on, *conditionings_by_name(self.conditioning),
                )  # fmt: skip
        if self.safety_checker and getattr(pipeline, "safety_checker", None) is None:
            raise UserError(f"generator.safety_checker=true: {self.model} holds no safety checker")

    def _image_arguments(self, batch: Sequence[Request]) -> dict[str, Any]:
        """Returns the arguments of the pipeline that hold images, and their weights."""
        controls = [controls_by_name for _, _, controls_by_name, _ in batch]
        names = list(self._controlnets() or controls[0])
        images = [_stack([by_name[name].image for by_name in controls]) for name in names]
        weights = []
        for name in names:
            (weight,) = {by_name[name].weight for by_name in controls}
            weights.append(float(weight) * self.control_weight)
        # a pipeline with one ControlNet takes no lists
        structure = images if len(names) > 1 else images[0]
        arguments: dict[str, Any] = {
            "controlnet_conditioning_scale": weights if len(names) > 1 else weights[0],
            "image": structure,
        }
        if self.strength is not None:
            size = self._size(batch[0])
            sources = [sample.image.resize(size, Image.Resampling.LANCZOS) for sample, *_ in batch]
            arguments |= {"image": sources, "control_image": structure, "strength": self.strength}
        return arguments

    def _size(self, request: Request) -> Size:
        """Returns the size of an image: that of its control images, where proportions are kept."""
        if self.width is not None and self.height is not None:
            return self.width, self.height
        controls = request[2]
        return next(iter(controls.values())).image.size

    def _controlnets(self) -> dict[str, str]:
        """Returns the ControlNets in use by the name of their conditioning; none for the checkpoint's own."""
        available = self.controlnet or {}
        if self.controlnet is None or self.conditioning is None:
            return available
        names = list(conditionings_by_name(self.conditioning))
        if not names:
            raise UserError(
                "a ControlNet follows a control image, and conditioning=none gives none: "
                "choose another conditioning"
            )
        if absent := [name for name in names if name not in available]:
            raise UserError(
                f"generator.controlnet names none for {absent[0]}, but for {', '.join(available)}: "
                f"set generator.controlnet.{absent[0]}"
            )
        return {name: available[name] for name in names}


def _scheduler(name: str, current: Any) -> Any:
    """Returns a scheduler of diffusers with the settings of another one."""
    import diffusers

    kind: Any = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise UserError(
            f"generator.scheduler={name}: diffusers {diffusers.__version__} has no such scheduler"
        )
    return kind.from_config(current.config)  # type: ignore[attr-defined]  # every scheduler has it


def move_to_device(pipeline: Any, device: str, offload: Offload, slicing: bool, tiling: bool) -> None:
    """Moves a pipeline of diffusers to a device; offloads only from a GPU."""
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


def check_sides(width: int | None, height: int | None) -> None:
    """Raises a UserError for one side without the other."""
    if (width is None) != (height is None):
        raise UserError(
            f"generator.width={'null' if width is None else width}, "
            f"generator.height={'null' if height is None else height}: "
            "set both, or neither, which keeps the proportions of the sources (generator.short_side)"
        )


def noise(seeds: Sequence[int]) -> list[Any]:
    """Returns a random generator for each image, on the CPU, because devices draw different numbers."""
    import torch

    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def to_images(pixels: "Tensor", withheld: Sequence[bool]) -> list[Image.Image | ItemError]:
    """Returns each image of a batch, or an ItemError for an unusable one.

    Args:
        pixels: Values of 0 to 1, of shape (n, 3, height, width), on any device.
        withheld: Which images the safety checker withheld.
    """
    import torch

    pixels = pixels.float()
    is_finite = pixels.isfinite().flatten(1).all(1).tolist()
    brightest = pixels.flatten(1).amax(1).tolist()
    # bytes instead of float32: a quarter of the transfer from the device
    levels = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    results: list[Image.Image | ItemError] = []
    for number, array in enumerate(levels):
        if withheld[number]:
            results.append(ItemError("the safety checker withheld the generated image"))
        elif not is_finite[number]:
            message = "the generated image holds values that are not numbers"
            results.append(ItemError(f"{message} (with dtype float16, try bfloat16 or float32)"))
        elif brightest[number] < DARKEST:
            results.append(ItemError("the generated image is black"))
        else:
            results.append(Image.fromarray(array))
    return results


def merge(pipeline: Any, path: Path) -> None:
    """Adds low-rank changes (Hu et al., ICLR 2022) to the weights of a pipeline.

    Raises a UserError for a file that does not fit the pipeline, in part or as a whole.
    """
    from safetensors import SafetensorError, safe_open
    from torch.nn import Module

    problem = f"generator.lora={path} does not fit generator.model"
    try:
        with safe_open(path, "pt") as file:
            keys = list(file.keys())
        expected = sum(LORA_UP.search(key) is not None for key in keys)
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{problem}: {error}") from error
    parts = pipeline.components.values()
    names = [name for part in parts if isinstance(part, Module) for name, _ in part.named_parameters()]
    loaded = sum("lora_B" in name for name in names)
    if loaded != expected:
        raise UserError(f"{problem}: only {loaded} of its {expected} layers are in the networks")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()


def _stack(images: Sequence[Image.Image]) -> "Tensor":
    """Returns control images as a tensor of 0 to 1, of shape (n, 3, height, width).

    All pipelines accept this form for several ControlNets and a batch.
    """
    import torch

    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 255
