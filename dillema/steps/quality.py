"""Measures how near every generated image stays to its original, and to its text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ..backend import Quality
from ..quality.similarity import similarity
from .base import Made, Step, made, open_image


@dataclass(frozen=True)
class QualityItem:
    """A generated image beside its original, both on the disk, with the keys of their records."""

    variant_id: str
    original: Path
    original_key: str
    image: Path
    image_key: str
    text: str


@dataclass(frozen=True)
class SimilarityStep(Step[QualityItem]):
    """SSIM and PSNR."""

    name: ClassVar[str] = "similarity"
    version: ClassVar[int] = 3  # 1 and 2 were other definitions of SSIM, in version 0.1

    def item_id(self, item: QualityItem) -> str:
        """Returns the id of the variant."""
        return item.variant_id

    def key(self, item: QualityItem) -> Any:
        """Returns the keys of both images."""
        return [item.original_key, item.image_key]

    def work(self, backend: None, batch: Sequence[QualityItem]) -> Sequence[Made | Exception]:
        """Returns the figures by name."""
        return made([similarity(open_image(item.original), open_image(item.image)) for item in batch])


@dataclass(frozen=True)
class NetworksStep(Step[QualityItem]):
    """What networks say about each image."""

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

    def work(self, backend: Quality, batch: Sequence[QualityItem]) -> Sequence[Made | Exception]:
        """Returns the figures by name."""
        originals = [open_image(item.original) for item in batch]
        images = [open_image(item.image) for item in batch]
        return made([
            dict(row) if not isinstance(row, Exception) else row
            for row in backend.score(originals, images, [item.text for item in batch])
        ])  # fmt: skip


@dataclass(frozen=True)
class DistanceItem:
    """Two sets of images on the disk, with the keys of their records, in the same order."""

    originals: tuple[Path, ...]
    images: tuple[Path, ...]
    original_keys: tuple[str, ...]
    image_keys: tuple[str, ...]


@dataclass(frozen=True)
class DistanceStep(Step[DistanceItem]):
    """How far the valid images, as a set, are from their originals."""

    quality: Quality

    name: ClassVar[str] = "distance"
    version: ClassVar[int] = 1

    @property
    def backend(self) -> Quality:
        """Returns the networks."""
        return self.quality

    def item_id(self, item: DistanceItem) -> str:
        """Returns the one item's name."""
        return "valid images"

    def key(self, item: DistanceItem) -> Any:
        """Returns the keys of all images."""
        return [list(item.original_keys), list(item.image_keys)]

    def work(self, backend: Quality, batch: Sequence[DistanceItem]) -> Sequence[Made | Exception]:
        """Returns the distances by name."""
        distances = []
        for item in batch:
            originals = [partial(open_image, path) for path in item.originals]
            images = [partial(open_image, path) for path in item.images]
            distances.append(backend.distance(originals, images))
        return made(distances)
