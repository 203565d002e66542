"""Makes a pipeline of diffusers faster without changing its result."""

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..execution import side_by_side

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_TEXTS = 256  # texts whose embeddings are kept: 80 MB for Stable Diffusion XL
EMBEDDINGS = (
    "prompt_embeds",
    "negative_prompt_embeds",
    "pooled_prompt_embeds",
    "negative_pooled_prompt_embeds",
)
"""The results of `encode_prompt` of a pipeline, in order; the last two for Stable Diffusion XL only."""
DOUBLED = ("prompt_embeds", "add_text_embeds", "add_time_ids", "image", "control_image")
"""Tensors that a pipeline with guidance holds twice: for the negative prompt and for the prompt."""


class ControlEmbedding(nn.Module):
    """The embedding of control images by a ControlNet, computed once for a batch.

    A pipeline passes the same tensor at every step, and a ControlNet would embed it again each time.
    """

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self._last = threading.local()  # pipelines in several threads share a ControlNet

    def clear(self) -> None:
        """Frees the memory of the last batch of this thread."""
        self._last.images = self._last.embedded = None

    # compiled code cannot compare the identity of tensors
    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
    def forward(self, images: Tensor) -> Tensor:
        """Returns the embedding of control images."""
        if images is not getattr(self._last, "images", None):
            self._last.embedded = self.embedding(images)
            self._last.images = images
        embedded: Tensor = self._last.embedded
        return embedded


def controlnets(pipeline: Any) -> list[Any]:
    """Returns the ControlNets of a pipeline."""
    return list(getattr(pipeline.controlnet, "nets", [pipeline.controlnet]))


def prepare(pipeline: Any, compile_networks: bool) -> None:
    """Makes a pipeline with ControlNets faster: embeddings of control images, memory layout, compilation."""
    networks = [pipeline.unet, *controlnets(pipeline), pipeline.vae]
    for network in networks:
        # convolutions compute in this layout; otherwise every layer converts
        network.to(memory_format=torch.channels_last)
    for controlnet in controlnets(pipeline):
        controlnet.controlnet_cond_embedding = ControlEmbedding(controlnet.controlnet_cond_embedding)
    if compile_networks:
        for network in [*networks[:-1], getattr(pipeline.vae, "decoder", None)]:
            if network is not None:
                network.compile()


class TextEmbeddings:
    """The embeddings of texts by the encoders of a pipeline, each computed once."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._embeddings: dict[str, list[Tensor]] = {}
        self._lock = (
            threading.Lock()
        )  # tokenizers keep the padding of the last call, so they are not thread-safe

    def arguments(self, texts: Sequence[str], negative_text: str) -> dict[str, Tensor]:
        """Returns the arguments of a pipeline that stand for prompts and their negative prompt."""
        prompts = [self._embed(text) for text in texts]
        negative = self._embed(negative_text)
        arguments = {}
        for index, parts in enumerate(zip(*prompts, strict=True)):
            prompt_name, negative_name = EMBEDDINGS[2 * index : 2 * index + 2]
            arguments[prompt_name] = torch.cat(parts)
            arguments[negative_name] = torch.cat([negative[index]] * len(texts))
        return arguments

    def _embed(self, text: str) -> list[Tensor]:
        """Returns the embeddings of one text, encoded alone so that they do not depend on a batch."""
        with self._lock:
            if text not in self._embeddings:
                if len(self._embeddings) >= MAX_TEXTS:
                    self._embeddings.clear()
                self._embeddings[text] = self._encode(text)
            return self._embeddings[text]

    def _encode(self, text: str) -> list[Tensor]:
        with torch.no_grad():
            output = self._pipeline.encode_prompt(
                prompt=text,
                device=self._pipeline._execution_device,  # the pipelines of SD 1.5 do not look for it
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        return [tensor for tensor in output if tensor is not None]


class GuidanceLimit:
    """Ends the guidance of a pipeline after a share of its steps, which halves the time of the others."""

    def __init__(self, pipeline: Any, share: float) -> None:
        self._share = share
        self._names = [name for name in DOUBLED if name in pipeline._callback_tensor_inputs]

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of a pipeline that make it call this object."""
        return {"callback_on_step_end": self, "callback_on_step_end_tensor_inputs": self._names}

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the tensors with which a pipeline continues after a step."""
        if not pipeline.do_classifier_free_guidance or step + 1 < self._share * pipeline.num_timesteps:
            return {}
        pipeline._guidance_scale = 0.0  # as the documentation of diffusers ends guidance
        return {name: _second_half(tensors[name]) for name in self._names}


def _second_half(tensors: Any) -> Any:
    """Returns the half of a batch that belongs to the prompts; of each part of a list."""
    if isinstance(tensors, (list, tuple)):
        return [_second_half(part) for part in tensors]
    return tensors.chunk(2)[1]


def paint_side_by_side(
    pipeline: Any, work: Callable[[Any, Item], Result], items: Sequence[Item]
) -> list[Result]:
    """Returns what `work(pipeline, item)` returns for each item, with an item on each core."""
    of_thread = threading.local()

    def run(item: Item) -> Result:
        if not hasattr(of_thread, "pipeline"):
            of_thread.pipeline = copy.copy(pipeline)  # shares the networks
            of_thread.pipeline.scheduler = copy.deepcopy(pipeline.scheduler)
        return work(of_thread.pipeline, item)

    return side_by_side(run, items)
