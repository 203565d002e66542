"""The order of the steps, on one screen."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

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
from .correction import correct_captions
from .execution import overlap
from .image_size import ImageSize
from .runner import Runner
from .steps import items, results
from .steps.caption import CaptionStep
from .steps.control import ControlStep
from .steps.gate import GateStep
from .steps.generate import GenerateStep
from .steps.keywords import KeywordsStep
from .steps.predict import PredictItem, PredictStep
from .steps.quality import NetworksStep, SimilarityStep
from .steps.rewrite import RewriteStep
from .steps.source import SourceStep, sort_samples
from .types import Sample

log = logging.getLogger(__name__)


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

    def run(self, runner: Runner, samples: Sequence[Sample]) -> Iterator[results.Block]:
        """Yields the results of the samples in blocks; block size and sample order change no result."""
        ordered, size = sort_samples(samples), runner.executor.block_size
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        blocks = overlap(partial(self.run_block, runner), parts, runner.executor.blocks, runner.executor.stop)
        runner.in_parts = len(parts) > 1
        for done in range(size, len(ordered) + size, size):
            yield next(blocks)  # without a name, which would keep it in memory beside the next one
            if runner.in_parts:
                log.info("%d of %d sources are done", min(done, len(ordered)), len(ordered))
        next(blocks, None)  # ends its threads: closed before its end, it would stop the executor
        runner.in_parts = False
        runner.refuse_total_failures()

    def run_block(self, runner: Runner, samples: Sequence[Sample]) -> results.Block:
        """Returns the results of some samples."""
        dataset, seed = self.dataset, self.seed
        sources = runner.run(SourceStep(dataset, self.size), samples)
        captions = runner.run(CaptionStep(self.captioner, dataset), items.to_caption(sources, seed))
        if self.correct_captions:
            captions = correct_captions(captions, dataset, self.synonyms)
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
        verdicts = results.join_verdicts(generated, self.gates, scores)
        images = results.join_images(generated, sources, captions, controls, verdicts, quality)
        predictions = self.predict(runner, items.to_predict(images, sources, dataset))
        counts = results.count(samples, captions, rewritten, images, self.gates)
        return results.Block(images, predictions, counts)

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

    def predict(
        self, runner: Runner, images: Sequence[tuple[PredictItem, items.ImageRecord]]
    ) -> list[items.Prediction]:
        """Returns the predictions of every model; a counterfactual counts only together with its original."""
        predictions: list[items.Prediction] = []
        for model in self.models:
            step = PredictStep(model, self.dataset, runner.executor.devices)
            records = runner.run(step, [item for item, _ in images])
            predictions += results.join_predictions(model.name, images, records)
        return predictions

    def quality_steps(self) -> list[SimilarityStep | NetworksStep]:
        """Returns the steps that measure the quality of images."""
        networks = [NetworksStep(self.quality)] if self.quality and self.quality.figures else []
        return [SimilarityStep(), *networks]
