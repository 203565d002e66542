"""Makes the items of a step from the results of earlier steps."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from ..backend import Dataset, EditStrategy, Renders, Vary
from ..decoding import read_saved_size
from ..errors import UserError, shorten
from ..image_size import Size
from ..keys import seed_for
from ..task import get_task
from ..types import (
    COUNTERFACTUAL,
    ORIGINAL,
    PLACEBO,
    TRUTH,
    Caption,
    Counterfactual,
    Edit,
    Expression,
    Sample,
    Variant,
    Verdict,
)
from .caption import CaptionItem
from .control import ControlItem
from .gate import GateItem, name_unchanged
from .generate import ControlFile, GenerateItem
from .keywords import KeywordsItem
from .predict import PredictItem, read_file, read_resized
from .quality import QualityItem
from .rewrite import RewriteItem


class Finished(Protocol):
    """The part of a finished item of a step that these functions use."""

    @property
    def item(self) -> Any:
        """Returns the item."""
        ...

    @property
    def value(self) -> Any:
        """Returns the result of the step."""
        ...

    @property
    def key(self) -> str:
        """Returns the key of its record."""
        ...

    @property
    def image(self) -> Path:
        """Returns the path of its image."""
        ...


Outcomes = Mapping[str, Finished]
"""The finished items of a step by id."""


@dataclass(frozen=True)
class PlannedVariant:
    """A variant of a source: its id, and its index among the variants of the source."""

    id: str
    source_id: str
    index: int
    variant: Variant


@dataclass(frozen=True)
class Text:
    """A text from which an image is generated: a counterfactual, or a placebo (index -1, no edits).

    `noise` counts the images that are generated from one counterfactual.
    """

    id: str
    source_id: str
    index: int
    counterfactual: Counterfactual
    noise: int = 0


@dataclass(frozen=True)
class GeneratedImage:
    """A generated image in the store, with everything that the pipeline computed about it."""

    id: str
    sample: Sample
    caption: Caption
    counterfactual: Counterfactual
    seed: int
    path: Path
    original: Path
    controls: Mapping[str, Path]
    verdict: Verdict
    quality: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_placebo(self) -> bool:
        """Returns whether nothing was changed."""
        return not self.counterfactual.edits


@dataclass(frozen=True)
class ImageRecord:
    """The properties of an image on which models are tested."""

    image_id: str
    source_id: str
    group: str
    kind: str
    edits: tuple[Edit, ...] = ()
    verdict: Verdict = field(default_factory=Verdict)
    digest: str = ""


@dataclass(frozen=True)
class Prediction:
    """The prediction of one model on one image, as the record of the task."""

    model: str
    image: ImageRecord
    record: Mapping[str, Any]


def to_caption(sources: Outcomes, seed: int) -> list[CaptionItem]:
    """Returns the items of the caption step: every source."""
    return [
        CaptionItem(source.item, source.key, seed_for(seed, name, "caption"))
        for name, source in sources.items()
    ]


def to_keywords(captions: Outcomes, dataset: Dataset, seed: int) -> list[KeywordsItem]:
    """Returns the items of the keywords step: every caption."""
    task = get_task(dataset.task)
    items = []
    for name, caption in captions.items():
        label = task.label_name(caption.item.sample, dataset)
        items.append(KeywordsItem(name, caption.value, label, seed_for(seed, name, "keywords")))
    return items


def plan(
    keywords: Outcomes, sources: Outcomes, strategy: EditStrategy, vary: Vary, count: int, seed: int
) -> list[PlannedVariant]:
    """Returns the variants of every source. Each source is planned alone.

    Raises a UserError for a strategy that fails, and for a plan that is not as `EditStrategy` promises,
    because figures would be wrong: a variant that occurs twice would count twice, and one without changes
    would be a second placebo.
    """
    planned = []
    for name, outcome in keywords.items():
        expressions = _with_attributes(outcome.value, sources[name].item.attributes)
        try:
            variants = strategy.plan(name, expressions, vary, count, seed)
        except UserError:
            raise
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"edits: {type(strategy).__name__} failed to plan {name}: {error!r} "
                f"({line.filename}, line {line.lineno}). Finished work is kept"
            ) from error
        if mistake := _find_mistake(variants, expressions, count):
            shown = shorten(repr(variants), 300)
            raise UserError(f"edits: {type(strategy).__name__} planned {shown} for {name}: {mistake}")
        planned += [PlannedVariant(f"{name}_{i}", name, i, variant) for i, variant in enumerate(variants)]
    return planned


def to_rewrite(
    variants: Sequence[PlannedVariant], captions: Outcomes, keywords: Outcomes, dataset: Dataset, seed: int
) -> list[RewriteItem]:
    """Returns the items of the rewrite step: every variant."""
    task = get_task(dataset.task)
    items = []
    for variant in variants:
        caption = captions[variant.source_id]
        expressions = _with_attributes(keywords[variant.source_id].value, caption.item.sample.attributes)
        label = task.label_name(caption.item.sample, dataset)
        item_seed = seed_for(seed, variant.source_id, "rewrite", variant.index)
        items.append(RewriteItem(variant.id, caption.value, expressions, variant.variant, label, item_seed))
    return items


def list_texts(rewritten: Outcomes, captions: Outcomes, placebos: int, images: int = 1) -> list[Text]:
    """Returns the texts to generate images from.

    They are the counterfactuals, each `images` times, and, with placebos, the caption of every source that
    has a counterfactual. The first image of a variant has its id; the id of another one ends in "-" and its
    number.
    """
    counterfactuals = []
    for name, outcome in rewritten.items():
        source_id, _, index = name.rpartition("_")
        counterfactual = replace(outcome.value, caption=captions[source_id].value.text)
        counterfactuals += [
            Text(f"{name}-{noise}" if noise else name, source_id, int(index), counterfactual, noise)
            for noise in range(images)
        ]
    unchanged = []
    for source_id in dict.fromkeys(text.source_id for text in counterfactuals) if placebos else ():
        caption = captions[source_id].value.text
        unchanged.append(
            Text(f"{source_id}_placebo", source_id, -1, Counterfactual(caption, (), caption=caption))
        )
    return counterfactuals + unchanged


def to_control(sources: Outcomes, texts: Sequence[Text]) -> list[ControlItem]:
    """Returns the items of the control step: every source that has a text."""
    names = dict.fromkeys(text.source_id for text in texts)
    return [
        ControlItem(sources[name].item, sources[name].key, read_size(sources[name].image)) for name in names
    ]


def to_generate(
    texts: Sequence[Text], sources: Outcomes, controls: Mapping[str, Outcomes], seed: int
) -> list[GenerateItem]:
    """Returns the items of the generate step: every text whose source has all control images."""
    items = []
    for text in texts:
        if any(text.source_id not in outcomes for outcomes in controls.values()):
            continue
        outcomes_of_source = {name: outcomes[text.source_id] for name, outcomes in controls.items()}
        files = {
            name: ControlFile(outcome.image, outcome.value, outcome.key)
            for name, outcome in outcomes_of_source.items()
        }
        source = sources[text.source_id]
        purpose = "placebo" if text.index < 0 else "generate"
        if text.noise:  # more images leave the first one as it is
            purpose = f"{purpose} noise {text.noise}"
        item_seed = seed_for(seed, text.source_id, purpose, max(text.index, 0))
        size = read_size(source.image)
        items.append(
            GenerateItem(text.id, source.item, source.key, text.counterfactual, files, item_seed, size)
        )
    return items


def to_gate(generated: Outcomes) -> list[GateItem]:
    """Returns the items of a gate's step: every generated image."""
    items = []
    for name, image in generated.items():
        item = image.item
        items.append(
            GateItem(name, item.sample, item.source_key, item.counterfactual, image.image, image.key)
        )
    return name_unchanged(items)


def to_quality(generated: Outcomes, sources: Outcomes) -> list[QualityItem]:
    """Returns the items of the quality steps: every generated image with its original."""
    items = []
    for name, image in generated.items():
        source = sources[image.item.sample.id]
        text = image.item.counterfactual.text
        items.append(QualityItem(name, source.image, source.key, image.image, image.key, text))
    return items


def to_predict(
    images: Sequence[GeneratedImage], sources: Outcomes, dataset: Dataset
) -> list[tuple[PredictItem, ImageRecord]]:
    """Returns the items of the predict step, each with its properties; originals come first."""
    source_ids = dict.fromkeys(image.sample.id for image in images)
    items = [make_original(sources[source_id]) for source_id in source_ids]
    for image in images:
        sample, edits = image.sample, image.counterfactual.edits
        source_key, size = sources[sample.id].key, read_size(sources[sample.id].image)
        kind = PLACEBO if image.is_placebo else COUNTERFACTUAL
        item = PredictItem(image.id, sample, source_key, read_file(image.path), image.path.stem, size)
        record = ImageRecord(image.id, sample.id, sample.group, kind, edits, image.verdict, image.path.stem)
        items.append((item, record))
        render = dataset.render(sample, edits) if isinstance(dataset, Renders) and edits else None
        if render is not None:
            content = [[edit.attribute, edit.replacement] for edit in edits]
            read = read_resized(render, size)
            item = PredictItem(f"{image.id} (truth)", sample, source_key, read, content, size)
            items.append((item, ImageRecord(image.id, sample.id, sample.group, TRUTH, edits, image.verdict)))
    return items


def make_original(source: Finished) -> tuple[PredictItem, ImageRecord]:
    """Returns the item of the predict step for the original of a source, and its properties."""
    sample: Sample = source.item
    size = read_size(source.image)
    item = PredictItem(
        f"{sample.id} (original)", sample, source.key, read_file(source.image), "original", size
    )
    return item, ImageRecord(sample.id, sample.id, sample.group, ORIGINAL, digest=sample.digest)


@lru_cache(maxsize=10_000)  # the steps ask for the same originals; the file of a record never changes
def read_size(path: Path) -> Size:
    """Returns the size of an image in the store."""
    return read_saved_size(path)


def _find_mistake(variants: Any, expressions: Mapping[str, Expression], count: int) -> str:
    """Returns what is wrong with a plan; "" if nothing is."""
    if not isinstance(variants, list) or not all(isinstance(variant, Variant) for variant in variants):
        return "it must be a list of Variant"
    if len(variants) > count:
        return f"at most {count} variants are asked for (counterfactuals={count})"
    if not all(variant.changes for variant in variants):
        return "a variant changes nothing"
    if unknown := {name for variant in variants for name in variant.changes} - expressions.keys():
        return f"the caption expresses no {min(unknown)}"
    if any(variant in variants[:index] for index, variant in enumerate(variants)):
        return "two variants are equal"
    return ""


def _with_attributes(
    expressions: Mapping[str, Expression], attributes: Mapping[str, str]
) -> dict[str, Expression]:
    """Returns expressions in which the attributes of the sample replace values that are unknown."""
    return {
        name: expression if expression.value else replace(expression, value=attributes.get(name, ""))
        for name, expression in expressions.items()
    }
