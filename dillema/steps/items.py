"""Joins the results of steps to the items of the next ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..backend import Dataset, EditStrategy, Renders, Size, Vary
from ..store import seed_for
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
from .gate import GateItem
from .generate import ControlFile, GenerateItem
from .keywords import KeywordsItem
from .predict import PredictItem, read_file, read_resized
from .quality import QualityItem
from .rewrite import RewriteItem


class Finished(Protocol):
    """A finished item of a step, as far as joins look at it."""

    @property
    def item(self) -> Any:
        """Returns the item."""
        ...

    @property
    def value(self) -> Any:
        """Returns what was made of it."""
        ...

    @property
    def key(self) -> str:
        """Returns the key of its record."""
        ...

    @property
    def image(self) -> Path:
        """Returns where its image lies."""
        ...


Outcomes = Mapping[str, Finished]
"""The finished items of a step by id."""


@dataclass(frozen=True)
class PlannedVariant:
    """A variant of a source: its id, and its place among those of the source."""

    id: str
    source_id: str
    place: int
    variant: Variant


@dataclass(frozen=True)
class Text:
    """What is to be painted: a counterfactual of a source, or (without edits) its placebo."""

    id: str
    source_id: str
    place: int
    counterfactual: Counterfactual


@dataclass(frozen=True)
class GeneratedImage:
    """A generated image in the store, with all that is known about it."""

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
    """What an image is, whatever a model says about it."""

    image_id: str
    source_id: str
    group: str
    kind: str
    edits: tuple[Edit, ...] = ()
    verdict: Verdict = field(default_factory=Verdict)
    digest: str = ""


@dataclass(frozen=True)
class Prediction:
    """What one model said about one image: the task's record of it."""

    model: str
    image: ImageRecord
    record: Mapping[str, Any]


def to_caption(sources: Outcomes, seed: int) -> list[CaptionItem]:
    """Returns every source to be captioned."""
    return [
        CaptionItem(done.item, done.key, seed_for(seed, name, "caption")) for name, done in sources.items()
    ]


def to_keywords(captions: Outcomes, dataset: Dataset, seed: int) -> list[KeywordsItem]:
    """Returns every caption to be asked about."""
    task = get_task(dataset.task)
    return [
        KeywordsItem(
            name, done.value, task.label_name(done.item.sample, dataset), seed_for(seed, name, "keywords")
        )
        for name, done in captions.items()
    ]  # fmt: skip


def plan(
    keywords: Outcomes, sources: Outcomes, strategy: EditStrategy, vary: Vary, count: int, seed: int
) -> list[PlannedVariant]:
    """Returns the variants of every source, each planned for itself."""
    planned = []
    for name, done in keywords.items():
        expressions = _with_attributes(done.value, sources[name].item.attributes)
        variants = strategy.plan(name, expressions, vary, count, seed)
        planned += [PlannedVariant(f"{name}_{place}", name, place, one) for place, one in enumerate(variants)]
    return planned


def to_rewrite(
    variants: Sequence[PlannedVariant], captions: Outcomes, keywords: Outcomes, dataset: Dataset, seed: int
) -> list[RewriteItem]:
    """Returns every variant to be written."""
    task = get_task(dataset.task)
    items = []
    for variant in variants:
        caption = captions[variant.source_id]
        expressions = _with_attributes(keywords[variant.source_id].value, caption.item.sample.attributes)
        label = task.label_name(caption.item.sample, dataset)
        item_seed = seed_for(seed, variant.source_id, "rewrite", variant.place)
        items.append(RewriteItem(variant.id, caption.value, expressions, variant.variant, label, item_seed))
    return items


def texts(rewritten: Outcomes, captions: Outcomes, placebos: int) -> list[Text]:
    """Returns what is to be painted.

    The counterfactuals, and the unchanged caption of every source that has any.
    """
    counterfactuals = []
    for name, done in rewritten.items():
        source_id, _, place = name.rpartition("_")
        counterfactual = replace(done.value, caption=captions[source_id].value.text)
        counterfactuals.append(Text(name, source_id, int(place), counterfactual))
    unchanged = []
    for source_id in dict.fromkeys(text.source_id for text in counterfactuals) if placebos else ():
        caption = captions[source_id].value.text
        unchanged.append(
            Text(f"{source_id}_placebo", source_id, -1, Counterfactual(caption, (), caption=caption))
        )
    return counterfactuals + unchanged


def to_control(sources: Outcomes, wanted: Sequence[Text]) -> list[ControlItem]:
    """Returns every source of which something is to be painted."""
    names = dict.fromkeys(text.source_id for text in wanted)
    return [ControlItem(sources[name].item, sources[name].key) for name in names]


def to_generate(
    wanted: Sequence[Text], sources: Outcomes, controls: Mapping[str, Outcomes], seed: int
) -> list[GenerateItem]:
    """Returns every text to be painted whose source has all control images."""
    items = []
    for text in wanted:
        if any(text.source_id not in made for made in controls.values()):
            continue
        files = {
            name: ControlFile(
                made[text.source_id].image, made[text.source_id].value, made[text.source_id].key
            )
            for name, made in controls.items()
        }
        source = sources[text.source_id]
        purpose = "placebo" if text.place < 0 else "generate"
        item_seed = seed_for(seed, text.source_id, purpose, max(text.place, 0))
        items.append(GenerateItem(text.id, source.item, source.key, text.counterfactual, files, item_seed))
    return items


def to_gate(generated: Outcomes) -> list[GateItem]:
    """Returns every generated image to be scored."""
    return [
        GateItem(
            name, done.item.sample, done.item.source_key, done.item.counterfactual, done.image, done.key
        )
        for name, done in generated.items()
    ]  # fmt: skip


def to_quality(generated: Outcomes, sources: Outcomes) -> list[QualityItem]:
    """Returns every generated image beside its original."""
    items = []
    for name, done in generated.items():
        source = sources[done.item.sample.id]
        text = done.item.counterfactual.text
        items.append(QualityItem(name, source.image, source.key, done.image, done.key, text))
    return items


def join(
    generated: Outcomes, sources: Outcomes, captions: Outcomes, controls: Mapping[str, Outcomes],
    verdicts: Mapping[str, Verdict], quality: Sequence[Outcomes],
) -> list[GeneratedImage]:  # fmt: skip
    """Returns the generated images with all that is known about them."""
    images = []
    for name, done in generated.items():
        source_id = done.item.sample.id
        figures: dict[str, float] = {}
        for measured in quality:
            figures |= measured[name].value if name in measured else {}
        images.append(
            GeneratedImage(
                id=name,
                sample=done.item.sample,
                caption=captions[source_id].value,
                counterfactual=done.item.counterfactual,
                seed=done.item.seed,
                path=done.image,
                original=sources[source_id].image,
                controls={conditioning: made[source_id].image for conditioning, made in controls.items()},
                verdict=verdicts[name],
                quality=figures,
            )
        )
    return images


def to_predict(
    images: Sequence[GeneratedImage], sources: Outcomes, dataset: Dataset, size: Size
) -> list[tuple[PredictItem, ImageRecord]]:
    """Returns every image that models are asked about, each with what it is; originals come first."""
    asked = [original(sources[name]) for name in dict.fromkeys(image.sample.id for image in images)]
    for image in images:
        sample, edits = image.sample, image.counterfactual.edits
        source_key = sources[sample.id].key
        kind = PLACEBO if image.is_placebo else COUNTERFACTUAL
        item = PredictItem(image.id, sample, source_key, read_file(image.path), image.path.stem)
        record = ImageRecord(image.id, sample.id, sample.group, kind, edits, image.verdict, image.path.stem)
        asked.append((item, record))
        render = dataset.render(sample, edits) if isinstance(dataset, Renders) and edits else None
        if render is not None:
            content = [[edit.attribute, edit.replacement] for edit in edits]
            item = PredictItem(f"{image.id} (truth)", sample, source_key, read_resized(render, size), content)
            asked.append((item, ImageRecord(image.id, sample.id, sample.group, TRUTH, edits, image.verdict)))
    return asked


def original(source: Finished) -> tuple[PredictItem, ImageRecord]:
    """Returns the original of a source to be predicted, and what it is."""
    sample: Sample = source.item
    item = PredictItem(f"{sample.id} (original)", sample, source.key, read_file(source.image), "original")
    return item, ImageRecord(sample.id, sample.id, sample.group, ORIGINAL, digest=sample.digest)


def answered(
    model: str, asked: Sequence[tuple[PredictItem, ImageRecord]], answers: Outcomes
) -> list[Prediction]:
    """Returns what a model said, without the images of sources on whose original it failed."""
    with_original = {
        record.source_id for item, record in asked if record.kind == ORIGINAL and item.image_id in answers
    }
    used: set[str] = {
        record.source_id
        for item, record in asked
        if record.kind == COUNTERFACTUAL and item.image_id in answers
    }
    return [
        Prediction(model, record, answers[item.image_id].value)
        for item, record in asked
        if item.image_id in answers and record.source_id in with_original & used
    ]


def _with_attributes(
    expressions: Mapping[str, Expression], attributes: Mapping[str, str]
) -> dict[str, Expression]:
    """Returns expressions, with the value that the data set knows where the caption's is unknown."""
    return {
        name: expression if expression.value else Expression(expression.span, attributes.get(name, ""))
        for name, expression in expressions.items()
    }
