"""The images of a reference, on which models under test are scored beside those of a run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import predictions
from .backend import Reference
from .pipeline import Pipeline
from .runner import Runner
from .steps.items import read_size
from .steps.predict import PredictItem, PredictStep, read_file
from .steps.source import SourceStep
from .types import REFERENCE, Edit, Sample

IMAGES_PER_BLOCK = 2_000  # bounds the memory


def name_condition(reference: Reference, sample: Sample) -> tuple[Edit, ...]:
    """Returns the attributes of an image that are not as in the normal condition."""
    return tuple(
        Edit(attribute, value, sample.attributes[attribute])
        for attribute, value in reference.normal.items()
        if sample.attributes[attribute] != value
    )


def describe_reference(reference: Reference, samples: Sequence[Sample]) -> dict[str, Any]:
    """Returns the part of results.json that describes a reference."""
    return {"name": reference.name, "normal": dict(reference.normal), "images": len(samples)}


def predict_reference(
    reference: Reference, samples: Sequence[Sample], pipeline: Pipeline, runner: Runner
) -> Iterator[dict[str, Any]]:
    """Yields the rows of predictions.parquet for the images of a reference, by all models of a pipeline.

    Images are resized to the size of generated ones, as originals are.
    """
    dataset = pipeline.dataset
    for start in range(0, len(samples), IMAGES_PER_BLOCK):
        sources = runner.run(SourceStep(dataset, pipeline.size), samples[start : start + IMAGES_PER_BLOCK])
        items = list_items(sources)
        for model in pipeline.models:
            outcomes = runner.run(PredictStep(model, dataset, runner.executor.devices), items)
            for item in items:
                if item.image_id in outcomes:
                    yield predictions.row(
                        model.name,
                        item.sample.id,
                        item.sample.id,
                        REFERENCE,
                        {**outcomes[item.image_id].value, "error_map": None},
                        group=item.sample.group,
                        edits=name_condition(reference, item.sample),
                        digest=item.sample.digest,
                    )


def list_items(sources: Mapping[str, Any]) -> list[PredictItem]:
    """Returns the items of the predict step for the finished items of the source step."""
    return [
        PredictItem(
            f"{name} ({REFERENCE})",
            source.item,
            source.key,
            read_file(source.image),
            "original",
            read_size(source.image),
        )
        for name, source in sources.items()
    ]
