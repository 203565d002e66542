"""No gate: every generated image counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from ..types import Dataset, Sample


@dataclass
class NoGate:
    """A gate that is always open."""

    batch_size: int = 64

    transient: ClassVar[tuple[str, ...]] = ("batch_size",)
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ()

    def load(self) -> None:
        """Does nothing: there is no model."""

    def score(self, samples: Sequence[Sample], images: Sequence[Image.Image], dataset: Dataset) -> list[dict[str, float]]:
        """Returns no scores for each image."""
        return [{} for _ in images]

    def verdict(self, scores: Mapping[str, float]) -> bool:
        """Returns True."""
        return True
