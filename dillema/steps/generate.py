"""Paints every counterfactual."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from ..backend import Generator
from ..errors import ItemError
from ..image_size import Size, in_equal_sizes
from ..types import Control, Counterfactual, Sample
from .base import Step, StepResult, open_image


@dataclass(frozen=True)
class ControlFile:
    """A control image on the disk, its weight, and the key of its record."""

    path: Path
    weight: float
    key: str


@dataclass(frozen=True)
class GenerateItem:
    """A counterfactual of a sample, its control images by conditioning, its size, and its noise's seed."""

    variant_id: str
    sample: Sample
    source_key: str
    counterfactual: Counterfactual
    controls: Mapping[str, ControlFile]
    seed: int
    size: Size


@dataclass(frozen=True)
class GenerateStep(Step[GenerateItem]):
    """Generates the images of a batch."""

    generator: Generator

    name: ClassVar[str] = "generate"
    version: ClassVar[int] = 1
    images: ClassVar[bool] = True

    @property
    def backend(self) -> Generator:
        """Returns the generator."""
        return self.generator

    def item_id(self, item: GenerateItem) -> str:
        """Returns the id of the variant."""
        return item.variant_id

    def key(self, item: GenerateItem) -> Any:
        """Returns what the image depends on; the method that wrote the counterfactual is not part of it."""
        edits = [asdict(edit) for edit in item.counterfactual.edits]
        controls = {name: control.key for name, control in item.controls.items()}
        return [item.source_key, item.counterfactual.text, edits, controls, item.seed]

    def work(self, backend: Generator, batch: Sequence[GenerateItem]) -> Sequence[StepResult | Exception]:
        """Returns the images."""
        images = in_equal_sizes(
            lambda part: self._generate(backend, part), batch, [item.size for item in batch]
        )
        return [check_image(image, item.size) for image, item in zip(images, batch, strict=True)]

    def _generate(
        self, backend: Generator, batch: Sequence[GenerateItem]
    ) -> Sequence[Image.Image | Exception]:
        """Returns the images of requests for one size."""
        controls = [
            {
                name: Control(open_image(control.path), control.weight)
                for name, control in item.controls.items()
            }
            for item in batch
        ]
        samples = [item.sample for item in batch]
        counterfactuals = [item.counterfactual for item in batch]
        return backend.generate(samples, counterfactuals, controls, [item.seed for item in batch])


def check_image(image: Any, size: Size) -> StepResult | Exception:
    """Returns a generated image as a result; an ItemError for what is no RGB image of this size."""
    if isinstance(image, Exception):
        return image
    if not isinstance(image, Image.Image):
        return ItemError(f"the generator returned a {type(image).__name__} instead of an image")
    if image.mode != "RGB" or image.size != size:
        width, height = size
        return ItemError(
            f"the generator returned an image of {image.width}x{image.height} pixels in {image.mode} "
            f"instead of {width}x{height} in RGB"
        )
    return StepResult(image=image)
