"""The images of held-out sources, on which models are tested."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from ..backend import Dataset, Renders
from ..image_size import Size
from ..steps.items import read_size
from ..steps.predict import PredictItem, read_file, read_resized
from ..types import COUNTERFACTUAL, ORIGINAL, TRUTH, Edit, Sample


@dataclass(frozen=True)
class HeldOutImage:
    """An image of a held-out source.

    Attributes:
        name: The name of the image, by which the images of a source differ.
        kind: Its kind: an original, a counterfactual or a render (the truth).
        item: The item of the predict step.
        condition: The values of the conditions that it shows; "" for a counterfactual.
    """

    name: str
    kind: str
    sample: Sample
    item: PredictItem
    edits: tuple[Edit, ...] = ()
    condition: str = ""

    @property
    def id(self) -> str:
        """Returns a unique id of the image."""
        return f"{self.name} ({self.kind})"


def join_equal_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Returns samples in which those with equal pixels have the same group.

    An image that occurs under two names must not be in both training and test.
    """
    parents: dict[str, str] = {}
    group_of_content: dict[bytes, str] = {}

    def find(group: str) -> str:
        while parents.setdefault(group, group) != group:
            group = parents[group]
        return group

    for sample in samples:
        group = find(sample.group or sample.id)
        try:
            content = hashlib.sha256(sample.image.tobytes()).digest()
        except Exception:  # the pipeline meets the same error and records it
            continue
        parents[group] = find(group_of_content.setdefault(content, group))
    return [replace(sample, group=find(sample.group or sample.id)) for sample in samples]


def list_real_images(
    samples: Sequence[Sample],
    sources: Mapping[str, Any],
    dataset: Dataset,
    conditions: Sequence[str],
) -> list[HeldOutImage]:
    """Returns the originals of samples, and renders of them in all combinations of conditions.

    Args:
        samples: The test samples.
        sources: Their finished items of the source step, by id.
        dataset: The data set; without `Renders` there are no renders.
        conditions: The attributes whose values are combined.
    """
    names = conditions if isinstance(dataset, Renders) else ()
    values = {
        name: list(dict.fromkeys([*(s.attributes[name] for s in samples), *dataset.vary.get(name, ())]))
        for name in names
    }
    images = []
    for sample in samples:
        own = {name: sample.attributes[name] for name in values}
        size = read_size(sources[sample.id].image)
        item = PredictItem(
            f"{sample.id} (original)",
            sample,
            sources[sample.id].key,
            read_file(sources[sample.id].image),
            "original",
            size,
        )
        images.append(HeldOutImage(sample.id, ORIGINAL, sample, item, condition=" ".join(own.values())))
        for combination in product(*values.values()):
            edits = tuple(
                Edit(name, own[name], value)
                for name, value in zip(values, combination, strict=True)
                if value != own[name]
            )
            render = dataset.render(sample, edits) if edits and isinstance(dataset, Renders) else None
            if render is not None:
                images.append(
                    _render(sample, sources[sample.id].key, render, size, edits, " ".join(combination))
                )
    return images


def make_counterfactual(
    name: str, sample: Sample, source_key: str, path: Path, edits: tuple[Edit, ...]
) -> HeldOutImage:
    """Returns a generated image of a test source."""
    item = PredictItem(name, sample, source_key, read_file(path), path.stem, read_size(path))
    return HeldOutImage(name, COUNTERFACTUAL, sample, item, edits)


def iterate_batches(images: Iterator[HeldOutImage], size: int) -> Iterator[list[HeldOutImage]]:
    """Yields images in batches, because there may be many."""
    batch: list[HeldOutImage] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _render(
    sample: Sample,
    source_key: str,
    render: Callable[[], Image.Image],
    size: Size,
    edits: tuple[Edit, ...],
    condition: str,
) -> HeldOutImage:
    name = f"{sample.id} {condition}"
    content = [asdict(edit) for edit in edits]
    item = PredictItem(f"{name} (truth)", sample, source_key, read_resized(render, size), content, size)
    return HeldOutImage(name, TRUTH, sample, item, edits, condition)
