"""Scores every generated image by one gate."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isinf, isnan
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from ..backend import Dataset, Gate
from ..errors import ItemError
from ..image_size import in_equal_sizes
from ..types import Counterfactual, Edit, Sample
from .base import Step, StepResult, dataset_key, open_image
from .verdict import list_scores


@dataclass(frozen=True)
class GateItem:
    """A generated image on the disk, with the keys of its record and of its source's."""

    variant_id: str
    sample: Sample
    source_key: str
    counterfactual: Counterfactual
    image: Path
    image_key: str


@dataclass(frozen=True)
class GateStep(Step[GateItem]):
    """Runs one gate. Its thresholds are not part of the key: other thresholds need no new scores."""

    gate: Gate
    dataset: Dataset

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:  # type: ignore[override]  # one step a gate
        """Returns "gate" and the name of the gate."""
        return f"gate {self.gate.name}"

    @property
    def backend(self) -> Gate:
        """Returns the gate."""
        return self.gate

    def item_id(self, item: GateItem) -> str:
        """Returns the id of the variant."""
        return item.variant_id

    def key(self, item: GateItem) -> Any:
        """Returns what scores depend on: the image, its source with its attributes, and the edits."""
        counterfactual = item.counterfactual
        edits = [asdict(edit) for edit in counterfactual.edits]
        texts = [counterfactual.caption, counterfactual.text]
        source = [item.source_key, dict(item.sample.attributes)]
        key = [dataset_key(self.dataset), source, item.image_key, texts, edits]
        if not getattr(self.gate, "asks_placebos", False):
            return key
        choices = {name: list(values or ()) for name, values in self.dataset.vary.items()}
        return [*key, [asdict(edit) for edit in counterfactual.unchanged], choices]

    def work(self, backend: Gate, batch: Sequence[GateItem]) -> Sequence[StepResult | Exception]:
        """Returns the scores by name, without NaN."""
        images = [open_image(item.image) for item in batch]
        pairs = list(zip(batch, images, strict=True))
        scores = in_equal_sizes(
            lambda part: self._score(backend, part), pairs, [image.size for image in images]
        )
        names = list_scores(self.gate, self.dataset.classes)
        return [row if isinstance(row, Exception) else _check_scores(row, names) for row in scores]

    def _score(
        self, backend: Gate, pairs: Sequence[tuple[GateItem, Image.Image]]
    ) -> Sequence[Mapping[str, float] | Exception]:
        """Returns the scores of images of one size."""
        samples = [item.sample for item, _ in pairs]
        counterfactuals = [item.counterfactual for item, _ in pairs]
        return backend.score(samples, counterfactuals, [image for _, image in pairs], self.dataset)


def name_unchanged(items: Sequence[GateItem]) -> list[GateItem]:
    """Returns items whose placebos have the edits of other images of their source as `unchanged`."""
    edits: dict[str, dict[str, Edit]] = {}
    for item in items:
        for edit in item.counterfactual.edits:
            edits.setdefault(item.sample.id, {}).setdefault(edit.attribute, edit)
    named = []
    for item in items:
        counterfactual = item.counterfactual
        if not counterfactual.edits:
            unchanged = tuple(edits.get(item.sample.id, {}).values())
            counterfactual = replace(counterfactual, unchanged=unchanged)
        named.append(replace(item, counterfactual=counterfactual))
    return named


def _check_scores(scores: Mapping[str, float], names: Sequence[str]) -> StepResult | Exception:
    """Returns scores without NaN as a result; an ItemError for one that is infinite or not of the gate."""
    for name, value in scores.items():
        if name not in names:
            return ItemError(f"the gate returned a score {name}, which is not one of {', '.join(names)}")
        if isinf(value):
            return ItemError(f"the score {name} is {value}")
    return StepResult({name: float(value) for name, value in scores.items() if not isnan(value)})
