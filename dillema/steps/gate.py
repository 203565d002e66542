"""Scores every generated image by one gate."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any, ClassVar

from ..backend import Dataset, Gate
from ..types import Counterfactual, Sample
from .base import Step, StepResult, dataset_key, open_image


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
        """Returns what scores depend on: the image, its source, and the edits."""
        counterfactual = item.counterfactual
        edits = [asdict(edit) for edit in counterfactual.edits]
        texts = [counterfactual.caption, counterfactual.text]
        return [dataset_key(self.dataset), item.source_key, item.image_key, texts, edits]

    def work(self, backend: Gate, batch: Sequence[GateItem]) -> Sequence[StepResult | Exception]:
        """Returns the scores by name, without NaN."""
        images = [open_image(item.image) for item in batch]
        counterfactuals = [item.counterfactual for item in batch]
        scores = backend.score([item.sample for item in batch], counterfactuals, images, self.dataset)
        return [
            row
            if isinstance(row, Exception)
            else StepResult({name: float(v) for name, v in row.items() if not isnan(v)})
            for row in scores
        ]
