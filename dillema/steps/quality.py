"""Measures how similar every generated image is to its original and to its text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ..backend import Quality
from ..image_size import in_equal_sizes
from ..quality.similarity import similarity
from .base import Step, StepResult, open_image, wrap_results


@dataclass(frozen=True)
class QualityItem:
    """The files of a generated image and its original, with the keys of their records."""

    variant_id: str
    original: Path
    original_key: str
    image: Path
    image_key: str
    text: str


@dataclass(frozen=True)
class SimilarityStep(Step[QualityItem]):
    """Computes SSIM and PSNR."""

    name: ClassVar[str] = "similarity"
    version: ClassVar[int] = 3  # 1 and 2 were other definitions of SSIM in DILLEMA 0.1

    def item_id(self, item: QualityItem) -> str:
        """Returns the id of the variant."""
        return item.variant_id

    def key(self, item: QualityItem) -> Any:
        """Returns the keys of both images."""
        return [item.original_key, item.image_key]

    def work(self, backend: None, batch: Sequence[QualityItem]) -> Sequence[StepResult | Exception]:
        """Returns the figures by name."""
        return wrap_results([similarity(open_image(item.original), open_image(item.image)) for item in batch])


@dataclass(frozen=True)
class NetworksStep(Step[QualityItem]):
    """Computes the figures that need networks."""

    quality: Quality

    name: ClassVar[str] = "networks"
    version: ClassVar[int] = 1

    @property
    def backend(self) -> Quality:
        """Returns the networks."""
        return self.quality

    def item_id(self, item: QualityItem) -> str:
        """Returns the id of the variant."""
        return item.variant_id

    def key(self, item: QualityItem) -> Any:
        """Returns the keys of both images, and the text."""
        return [item.original_key, item.image_key, item.text]

    def work(self, backend: Quality, batch: Sequence[QualityItem]) -> Sequence[StepResult | Exception]:
        """Returns the figures by name."""
        pairs = [(open_image(item.original), open_image(item.image), item.text) for item in batch]
        scores = in_equal_sizes(
            lambda part: backend.score(*(list(column) for column in zip(*part, strict=True))),
            pairs,
            [image.size for _, image, _ in pairs],
        )
        return wrap_results([dict(row) if not isinstance(row, Exception) else row for row in scores])


@dataclass(frozen=True)
class DistanceItem:
    """The files of two sets of images, with the keys of their records in the same order."""

    originals: tuple[Path, ...]
    images: tuple[Path, ...]
    original_keys: tuple[str, ...]
    image_keys: tuple[str, ...]


@dataclass(frozen=True)
class DistanceStep(Step[DistanceItem]):
    """Computes the distances of the set of valid images from the set of their originals."""

    quality: Quality

    name: ClassVar[str] = "distance"
    version: ClassVar[int] = 1

    @property
    def backend(self) -> Quality:
        """Returns the networks."""
        return self.quality

    def item_id(self, item: DistanceItem) -> str:
        """Returns the name of the only item."""
        return "valid images"

    def key(self, item: DistanceItem) -> Any:
        """Returns the keys of all images."""
        return [list(item.original_keys), list(item.image_keys)]

    def work(self, backend: Quality, batch: Sequence[DistanceItem]) -> Sequence[StepResult | Exception]:
        """Returns the distances by name."""
        distances = []
        for item in batch:
            originals = [partial(open_image, path) for path in item.originals]
            images = [partial(open_image, path) for path in item.images]
            distances.append(backend.distance(originals, images))
        return wrap_results(distances)
