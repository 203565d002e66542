"""The order of the steps, on one screen."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from .backend import (
    Captioner,
    Conditioning,
    Dataset,
    Editor,
    EditStrategy,
    Gate,
    Generator,
    Model,
    Quality,
    Renders,
)
from .counterfactual.labels import read_synonyms
from .counterfactual.naming import ClassNames
from .errors import UserError
from .execution import overlap
from .image_size import ImageSize
from .runner import Outcome, Runner
from .steps import items
from .steps.caption import CaptionItem, CaptionStep
from .steps.control import ControlStep
from .steps.gate import GateStep
from .steps.generate import GenerateStep
from .steps.items import GeneratedImage, ImageRecord, Prediction
from .steps.keywords import KeywordsStep
from .steps.predict import PredictItem, PredictStep
from .steps.quality import NetworksStep, SimilarityStep
from .steps.rewrite import RewriteStep
from .steps.source import SourceStep
from .steps.verdict import FAILED, verdict
from .task import get_task
from .types import Caption, Sample, Verdict

log = logging.getLogger(__name__)

SAFE_ID = re.compile(r"\w[\w.-]*")  # ids become file names


@dataclass(frozen=True)
class Block:
    """The results of some of the sources: generated images, predictions, and numbers of items."""

    images: list[GeneratedImage]
    predictions: list[Prediction]
    counts: dict[str, int]


@dataclass(frozen=True)
class Pipeline:
    """The back-ends of a run: one of each group of the configuration, or several.

    Attributes:
        counterfactuals: How many variants each source has.
        images_per_counterfactual: How many images are generated of each variant, each from its own noise.
        correct_captions: Whether a caption that contradicts the class of its source is corrected.
        synonyms: A file with synonyms of the classes, see `read_synonyms`; None for none.
        placebos: How many times (0 or 1) each source is painted again from its unchanged caption.
        seed: Every random choice follows from it.
    """

    dataset: Dataset
    captioner: Captioner
    editor: Editor
    edits: EditStrategy
    conditionings: Mapping[str, Conditioning]
    generator: Generator
    gates: Sequence[Gate] = ()
    models: Sequence[Model] = ()
    quality: Quality | None = None
    counterfactuals: int = 3
    images_per_counterfactual: int = 1
    correct_captions: bool = True
    synonyms: str | None = None
    placebos: int = 0
    seed: int = 0

    @property
    def size(self) -> ImageSize:
        """Returns the size of the generated images and of all images that models see."""
        generator = self.generator
        if generator.width is not None and generator.height is not None:
            return ImageSize(generator.width, generator.height)
        return ImageSize(short_side=generator.short_side)  # type: ignore[attr-defined]  # see Generator

    def run(self, runner: Runner, samples: Sequence[Sample]) -> Iterator[Block]:
        """Yields the results of the samples in blocks; block size and sample order change no result."""
        ordered = sort_samples(samples)
        executor, size = runner.executor, runner.executor.block_size
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        blocks = overlap(partial(self.run_block, runner), parts, executor.blocks, executor.stop)
        done, runner.in_parts = 0, len(parts) > 1
        for part, block in zip(parts, blocks, strict=True):
            yield block
            done += len(part)
            if len(parts) > 1:
                log.info("%d of %d sources are done", done, len(ordered))
        runner.in_parts = False
        runner.refuse_total_failures()

    def run_block(self, runner: Runner, samples: Sequence[Sample]) -> Block:
        """Returns the results of some samples."""
        dataset, seed = self.dataset, self.seed
        sources = runner.run(SourceStep(dataset, self.size), samples)
        captions = runner.run(CaptionStep(self.captioner, dataset), items.to_caption(sources, seed))
        if self.correct_captions:
            captions = {name: self._correct(caption) for name, caption in captions.items()}
        keywords = runner.run(
            KeywordsStep(self.editor, dataset.vary), items.to_keywords(captions, dataset, seed)
        )
        variants = items.plan(keywords, sources, self.edits, dataset.vary, self.counterfactuals, seed)
        rewritten = runner.run(
            RewriteStep(self.editor), items.to_rewrite(variants, captions, keywords, dataset, seed)
        )
        texts = items.list_texts(rewritten, captions, self.placebos, self.images_per_counterfactual)
        controls = {
            name: runner.run(ControlStep(part, dataset), items.to_control(sources, texts))
            for name, part in self.conditionings.items()
        }
        generated = runner.run(
            GenerateStep(self.generator), items.to_generate(texts, sources, controls, seed)
        )
        scores = {
            gate.name: runner.run(GateStep(gate, dataset), items.to_gate(generated)) for gate in self.gates
        }
        pairs = items.to_quality(generated, sources)
        quality = [runner.run(step, pairs) for step in self.quality_steps()]
        verdicts = {name: self._verdict(name, scores) for name in generated}
        images = items.join_images(generated, sources, captions, controls, verdicts, quality)
        predictions = self.predict(runner, items.to_predict(images, sources, dataset))
        counterfactuals = [image for image in images if not image.is_placebo]
        counts = {"sources": len(samples), "captions": len(captions), "counterfactuals": len(rewritten)}
        counts |= {
            "generated": len(counterfactuals),
            "valid": sum(image.verdict.valid for image in counterfactuals),
        }
        corrected = sum(bool(caption.value.uncorrected) for caption in captions.values())
        counts |= {"placebos": len(images) - len(counterfactuals), "corrected_captions": corrected}
        return Block(images, predictions, counts)

    def list_steps(self) -> list[tuple[str, float]]:
        """Returns the steps of a block in their order, each with the items that a source has at most."""
        images = self.counterfactuals * self.images_per_counterfactual + self.placebos
        renders = self.counterfactuals if isinstance(self.dataset, Renders) else 0
        return [
            *((name, 1) for name in ("source", "caption", "keywords")),
            ("rewrite", self.counterfactuals),
            *(("control", 1) for _ in self.conditionings),
            ("generate", images),
            *((GateStep(gate, self.dataset).name, images) for gate in self.gates),
            *((step.name, images) for step in self.quality_steps()),
            *(("predict", 1 + images + renders) for _ in self.models),
        ]

    def predict(self, runner: Runner, images: Sequence[tuple[PredictItem, ImageRecord]]) -> list[Prediction]:
        """Returns the predictions of every model; a counterfactual counts only together with its original."""
        predictions: list[Prediction] = []
        for model in self.models:
            step = PredictStep(model, self.dataset, runner.executor.devices)
            records = runner.run(step, [item for item, _ in images])
            predictions += items.join_predictions(model.name, images, records)
        return predictions

    @cached_property
    def _class_names(self) -> ClassNames:
        synonyms = read_synonyms(self.synonyms) if self.synonyms else {}
        return ClassNames(self.dataset.classes, synonyms)

    def _correct(self, caption: Outcome[CaptionItem]) -> Outcome[CaptionItem]:
        """Returns a caption that names no other class than its source's, as it is where it names none."""
        label = get_task(self.dataset.task).label_name(caption.item.sample, self.dataset)
        if not label:
            return caption
        text = self._class_names.correct(caption.value.text, self.dataset.classes.index(label))
        if text == caption.value.text:
            return caption
        return replace(caption, value=Caption(text, uncorrected=caption.value.text))

    def quality_steps(self) -> list[SimilarityStep | NetworksStep]:
        """Returns the steps that measure the quality of images."""
        networks = [NetworksStep(self.quality)] if self.quality and self.quality.figures else []
        return [SimilarityStep(), *networks]

    def _verdict(self, image: str, scores: Mapping[str, Mapping[str, Outcome[Any]]]) -> Verdict:
        """Returns the verdict of all gates on an image."""
        measured: dict[str, float] = {}
        for gate in self.gates:
            scored = scores[gate.name].get(image)
            values = scored.value if scored else {FAILED: 1.0}
            measured |= {f"{gate.name}.{score}": value for score, value in values.items()}
        return verdict(self.gates, measured)


def sort_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Returns the samples by id; raises a UserError for ids that are repeated or cannot be file names."""
    ids: set[str] = set()
    for sample in samples:
        if not SAFE_ID.fullmatch(sample.id):
            raise UserError(
                f"the data set has a sample called {sample.id!r}: ids name files, "
                "so they may only hold letters, digits, '_', '-' and '.'"
            )
        if sample.id in ids:
            raise UserError(f"the data set has two samples called {sample.id}: ids must be unique")
        ids.add(sample.id)
    return sorted(samples, key=lambda sample: sample.id)
