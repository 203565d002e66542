"""Computes the figures of results.json from what a run folder holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from .. import statistics
from ..backend import Quality
from ..run_folder import Labels, RunFolder
from ..runner import Runner
from ..steps.items import GeneratedImage
from ..steps.quality import DistanceItem, DistanceStep


def figures(folder: RunFolder, facts: Mapping[str, Any], models: Sequence[str]) -> dict[str, Any]:
    """Returns the figures of models and of image quality.

    `facts` is what results.json says about the run itself.
    """
    colours = tuple((red, green, blue) for red, green, blue in facts["colours"])
    ignored = frozenset(facts["ignored"])
    labels = Labels(facts["dataset"], facts["task"], tuple(facts["classes"]), colours, ignored)
    summary = statistics.summarise(folder.predictions_file, labels, models, facts["seed"])
    return {"quality": _quality(folder, facts["seed"]), **summary}


def _quality(folder: RunFolder, seed: int) -> dict[str, Any]:
    """Returns the mean of every quality figure over the valid images."""
    values: dict[str, list[tuple[str, float]]] = {}
    for image in folder.generated():
        for name, value in image.quality.items() if image.verdict.valid else ():
            values.setdefault(name, []).append((image.group or image.source, value))
    return {name: statistics.means(pairs, seed) for name, pairs in values.items()}


def measure_distance(
    runner: Runner, quality: Quality | None, valid: Sequence[GeneratedImage]
) -> dict[str, Any] | None:
    """Returns how far the valid images, as a set, are from their originals.

    None where nothing measures it, or for fewer than two of either.
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
