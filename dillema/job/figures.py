"""Computes the figures of results.json from what a run folder holds."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from .. import statistics
from ..backend import Quality
from ..decoding import read_saved_size
from ..run_folder import Labels, RunFolder
from ..runner import Runner
from ..steps.quality import DistanceItem, DistanceStep


def compute_figures(
    folder: RunFolder, description: Mapping[str, Any], models: Sequence[str]
) -> dict[str, Any]:
    """Returns the figures of the models and of image quality.

    `description` is the part of results.json that describes the run: its data set, its task, its seed.
    """
    labels = Labels.read(description)
    reference = _read_reference(folder, description)
    summary = statistics.summarise(folder.predictions_file, labels, models, description["seed"], reference)
    quality = _average_quality(folder, description["seed"])
    return {"sizes": _count_sizes(folder), "quality": quality, **summary}


def _count_sizes(folder: RunFolder) -> dict[str, int]:
    """Returns how many sources models saw at each size, such as 832x512; the most frequent sizes first."""
    sizes: Counter[str] = Counter()
    for path in sorted((folder.path / "originals").glob("*.png")):
        width, height = read_saved_size(path)
        sizes[f"{width}x{height}"] += 1
    return dict(sizes.most_common())


def _read_reference(folder: RunFolder, description: Mapping[str, Any]) -> statistics.ReferenceImages | None:
    """Returns what the run folder knows of conditions; None for a run without a reference."""
    reference = description.get("reference")
    if not reference:
        return None
    attributes = {image.source: image.attributes for image in folder.generated()}
    return statistics.ReferenceImages(reference["name"], reference["normal"], attributes)


def _average_quality(folder: RunFolder, seed: int) -> dict[str, Any]:
    """Returns the mean of every quality figure over the valid images."""
    groups: dict[str, list[str]] = {}
    values: dict[str, array[float]] = {}
    for image in folder.generated():
        for name, value in image.quality.items() if image.verdict.valid else ():
            groups.setdefault(name, []).append(image.group or image.source)
            values.setdefault(name, array("d")).append(value)
    return {name: statistics.means(zip(groups[name], values[name], strict=True), seed) for name in values}


def describe_distance(images: Iterable[tuple[str, Path, str, Path, str]]) -> DistanceItem:
    """Returns the item of the distance step for the valid images.

    Each image is given by its id, the file and the record's key of its original, and its own file and key.
    """
    ordered = sorted(images, key=itemgetter(0))
    originals = {key: file for _, file, key, _, _ in ordered}
    return DistanceItem(
        originals=tuple(originals.values()),
        images=tuple(file for _, _, _, file, _ in ordered),
        original_keys=tuple(originals),
        image_keys=tuple(key for _, _, _, _, key in ordered),
    )


def measure_distance(runner: Runner, quality: Quality, item: DistanceItem) -> dict[str, Any] | None:
    """Returns the distances of the set of valid images from the set of their originals.

    None if no network measures them, or for fewer than two originals.
    """
    if not quality.features or len(item.originals) < 2:
        return None
    step = DistanceStep(quality)
    finished = runner.run(step, [item])
    value: dict[str, Any] = finished[step.item_id(item)].value
    return value
