"""Extracts from every source the structure that its generated images must keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

from PIL import Image

from ..backend import Conditioning, Dataset, Size
from ..errors import ItemError
from ..types import Control, Sample
from .base import Step, StepResult, dataset_key


@dataclass(frozen=True)
class ControlItem:
    """A sample, the key of its source record, and the size of its generated images."""

    sample: Sample
    source_key: str
    size: Size


@dataclass(frozen=True)
class ControlStep(Step[ControlItem]):
    """Makes the control image of one conditioning."""

    conditioning: Conditioning
    dataset: Dataset

    name: ClassVar[str] = "control"
    version: ClassVar[int] = 1
    images: ClassVar[bool] = True

    @property
    def backend(self) -> Conditioning:
        """Returns the conditioning."""
        return self.conditioning

    @property
    def batch_size(self) -> int:
        """Returns 1: a conditioning takes one sample at a time."""
        return 1

    def item_id(self, item: ControlItem) -> str:
        """Returns the id of the sample."""
        return item.sample.id

    def key(self, item: ControlItem) -> Any:
        """Returns what the control image depends on, with the additional data that the conditioning reads."""
        parts = [dataset_key(self.dataset), item.source_key, list(item.size)]
        if hasattr(self.conditioning, "content"):
            parts.append(self._content(item.sample))
        return parts

    def work(self, backend: Conditioning, batch: Sequence[ControlItem]) -> Sequence[StepResult | Exception]:
        """Returns the control images; the value of a result is the weight of the image."""
        return [
            check_control(backend.control(item.sample, self.dataset, item.size), item.size) for item in batch
        ]

    def _content(self, sample: Sample) -> str:
        try:
            return str(self.conditioning.content(sample))  # type: ignore[attr-defined]  # see ReadsMore
        except Exception:  # `work` meets the same error and records it
            return f"{sample.id} cannot be read"


def check_control(control: Any, size: Size) -> StepResult | Exception:
    """Returns a control image as a result; an ItemError for what is no RGB image of this size."""
    if not isinstance(control, Control) or not isinstance(control.image, Image.Image):
        return ItemError(f"the conditioning returned {control!r:.200} instead of a control image")
    image, weight = control.image, control.weight
    if image.mode != "RGB" or image.size != size:
        return ItemError(
            f"the conditioning returned an image of {image.width}x{image.height} pixels in {image.mode} "
            f"instead of {size[0]}x{size[1]} in RGB"
        )
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not isfinite(weight):
        return ItemError(f"the conditioning returned the weight {weight!r:.200} instead of a number")
    return StepResult(weight, image)
