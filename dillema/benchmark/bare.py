"""Bare loops: what a user of the library would write for a stage, on inputs that are in memory."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .. import hub
from ..captioner.transformers import TransformersCaptioner
from ..counterfactual.editor import Editor
from ..generator.diffusers import ControlNetGenerator, noise
from ..llm.llama_cpp import LlamaCpp
from ..model.transformers import (
    TransformersClassification,
    TransformersMaskSegmentation,
    TransformersSegmentation,
)
from ..steps.base import Step, open_image
from ..validity.reader import ReaderGate
from ..validity.segmenter import SegmenterGate

INSTEAD = "other stages"
Images = Sequence[Any]


@dataclass
class BareLoop:
    """A loop over a batch of inputs, in the way that the documentation of its library shows.

    Attributes:
        inputs: What it is given.
        work: Does the work of a batch.
        operations: Of an input: multiplications and additions of its matrix products and convolutions.
        bytes: Of weights that an input reads one after the other, as each token of a language model does.
        batches: Whether several inputs can be in a batch.
        per_item: How many inputs an item has.
    """

    inputs: list[Any]
    work: Callable[[Sequence[Any]], Any]
    operations: float = 0.0
    bytes: float = 0.0
    batches: bool = True
    per_item: float = 1.0

    def count_operations(self) -> None:
        """Counts the operations of the first input."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.work(self.inputs[:1])
        self.operations = float(counter.get_total_flops())


@dataclass(frozen=True)
class Question:
    """What a language model was asked, and what it replied."""

    turns: Any
    reply: str


def make_loop(step: Step[Any], items: Sequence[Any], questions: Sequence[Question]) -> BareLoop | None:
    """Returns the bare loop of a step with its model loaded, or None for a class that has none here.

    Args:
        step: The step, whose back-end is not loaded.
        items: The items that our code computes.
        questions: What the language model was asked about them.
    """
    backend = step.backend
    if isinstance(backend, Editor):
        return _language_model(backend.llm, questions, len(items))
    loop = None
    if isinstance(backend, TransformersCaptioner):
        loop = _captioner(backend, [item.sample.image for item in items])
    elif isinstance(backend, ControlNetGenerator) and backend.strength is None:
        loop = _generator(backend, items)
    elif isinstance(backend, (TransformersClassification, TransformersSegmentation,
                              TransformersMaskSegmentation)):  # fmt: skip
        loop = _network(backend.auto_class, backend, [item.read() for item in items])
    elif isinstance(backend, (SegmenterGate, ReaderGate)):
        kinds = {"pixels": TransformersSegmentation, "masks": TransformersMaskSegmentation}
        kind = kinds[backend.kind] if isinstance(backend, SegmenterGate) else TransformersClassification
        loop = _network(kind.auto_class, backend, [open_image(item.image) for item in items])
    if loop is not None:
        loop.count_operations()
    return loop


def _network(auto_class: str, backend: Any, images: Images) -> BareLoop:
    """Returns a loop that puts images through an image processor and a network of transformers."""
    import transformers

    processor = hub.load(transformers.AutoImageProcessor, backend.model, INSTEAD)
    kind = getattr(transformers, auto_class)
    network = hub.network(kind, backend.model, INSTEAD, backend.device, backend.dtype)

    def work(batch: Images) -> Any:
        pixels = processor(list(batch), return_tensors="pt")["pixel_values"]
        return network(pixel_values=pixels.to(network.device, network.dtype))

    return BareLoop(list(images), work)


def _captioner(backend: TransformersCaptioner, images: Images) -> BareLoop:
    import transformers

    kind = transformers.AutoProcessor if backend.prompt else transformers.AutoImageProcessor
    processor = hub.load(kind, backend.model, INSTEAD)
    tokenizer = hub.load(transformers.AutoTokenizer, backend.model, INSTEAD)
    kind = transformers.AutoModelForImageTextToText
    network = hub.network(kind, backend.model, INSTEAD, backend.device, backend.dtype, backend.quantization)

    def work(batch: Images) -> Any:
        text = {"text": [backend.prompt] * len(batch)} if backend.prompt else {}
        inputs = processor(images=list(batch), **text, return_tensors="pt")
        inputs = inputs.to(network.device, network.dtype)
        tokens = network.generate(**inputs, max_new_tokens=backend.max_new_tokens, do_sample=False)
        return tokenizer.batch_decode(tokens, skip_special_tokens=True)

    return BareLoop(list(images), work)


def _generator(backend: ControlNetGenerator, items: Sequence[Any]) -> BareLoop:
    device, dtype = hub.placement(backend.device, backend.dtype)
    pipeline = backend.open_pipeline(dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)
    names = list(items[0].controls)
    weights = [items[0].controls[name].weight * backend.control_weight for name in names]
    inputs = [
        (i.counterfactual.text, [open_image(i.controls[name].path) for name in names], i.seed, i.size)
        for i in items
    ]

    def work(batch: Sequence[Any]) -> Any:
        texts, controls, seeds, sizes = zip(*batch, strict=True)
        images: list[Any] = [list(column) for column in zip(*controls, strict=True)]
        return pipeline(
            list(texts),
            image=images if len(names) > 1 else images[0],
            controlnet_conditioning_scale=weights if len(names) > 1 else weights[0],
            negative_prompt=[backend.negative_prompt] * len(batch),
            width=sizes[0][0],
            height=sizes[0][1],
            num_inference_steps=backend.steps,
            guidance_scale=backend.guidance,
            generator=noise(seeds),
        ).images

    return BareLoop([entry for entry in inputs if entry[3] == inputs[0][3]], work)


def _language_model(llm: Any, questions: Sequence[Question], items: int) -> BareLoop | None:
    """Returns a loop in which llama.cpp reads the last turn of a question, then each token of the reply.

    There is neither sampling nor a grammar, as in llama.cpp's own benchmark.
    """
    import llama_cpp

    if not questions or not isinstance(llm, LlamaCpp):
        return None
    file = hub.file(llm.model, INSTEAD)
    llama = llm.open(file)
    parts = [
        [llama.tokenize(text.encode(), add_bos=False) for text in (q.turns[-1]["content"], q.reply)]
        for q in questions
    ]

    def work(batch: Sequence[Any]) -> None:
        for prompt, reply in batch:
            llama.reset()
            llama.eval(prompt)
            for token in reply:
                llama.eval([token])

    tokens = sum(len(prompt) for prompt, _ in parts) / len(parts)
    replies = sum(len(reply) for _, reply in parts) / len(parts)
    operations = 2.0 * llama_cpp.llama_model_n_params(llama.model) * tokens
    bytes_read = replies * file.stat().st_size
    return BareLoop(parts, work, operations, bytes_read, batches=False, per_item=len(parts) / items)


def record_questions(backend: Any) -> list[Question]:
    """Returns a list to which a loaded editor adds what it asks its language model; empty for others."""
    questions: list[Question] = []
    llm = getattr(backend, "llm", None)
    if llm is None:
        return questions
    ask = llm.ask

    def recording(messages: Any, schema: Any, seed: int) -> str:
        reply: str = ask(messages, schema, seed)
        questions.append(Question(json.loads(json.dumps(messages)), reply))
        return reply

    llm.ask = recording
    return questions
