"""Computes the figures of results.json from what a run folder holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from .. import statistics
from ..backend import Quality
from ..run_folder import Labels, RunFolder
from ..runner import Runner
from ..steps.items import GeneratedImage
from ..steps.quality import DistanceItem, DistanceStep


def compute_figures(
    folder: RunFolder, description: Mapping[str, Any], models: Sequence[str]
) -> dict[str, Any]:
    """Returns the figures of the models and of image quality.

    `description` is the part of results.json that describes the run: its data set, its task, its seed.
    """
    colours = tuple((red, green, blue) for red, green, blue in description["colours"])
    ignored = frozenset(description["ignored"])
    labels = Labels(
        description["dataset"], description["task"], tuple(description["classes"]), colours, ignored
    )
    summary = statistics.summarise(folder.predictions_file, labels, models, description["seed"])
    return {"quality": _average_quality(folder, description["seed"]), **summary}


def _average_quality(folder: RunFolder, seed: int) -> dict[str, Any]:
    """Returns the mean of every quality figure over the valid images."""
    values: dict[str, list[tuple[str, float]]] = {}
    for image in folder.generated():
        for name, value in image.quality.items() if image.verdict.valid else ():
            values.setdefault(name, []).append((image.group or image.source, value))
    return {name: statistics.means(pairs, seed) for name, pairs in values.items()}


def measure_distance(
    runner: Runner, quality: Quality | None, valid: Sequence[GeneratedImage]
) -> dict[str, Any] | None:
    """Returns the distances of the set of valid images from the set of their originals.

    None if no network measures them, or for fewer than two originals.
    """
    if quality is None or not quality.features:
        return None
    images = sorted(valid, key=lambda image: image.id)
    originals = list(dict.fromkeys(image.original for image in images))
    if len(originals) < 2:
        return None
    item = DistanceItem(
        tuple(originals),
        tuple(image.path for image in images),
        tuple(path.stem for path in originals),
        tuple(image.path.stem for image in images),
    )
    step = DistanceStep(quality)
    finished = runner.run(step, [item])
    value: dict[str, Any] = finished[step.item_id(item)].value
    return value
