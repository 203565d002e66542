"""Captions every source."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backend import Captioner, Dataset
from ..errors import ItemError
from ..store import storable
from ..types import Caption, Sample
from .base import Step, StepResult, dataset_key, wrap_results


@dataclass(frozen=True)
class CaptionItem:
    """A sample, the key of its source record, and the seed of its caption."""

    sample: Sample
    source_key: str
    seed: int


@dataclass(frozen=True)
class CaptionStep(Step[CaptionItem]):
    """Captions the samples, not the resized originals, because a captioner resizes images itself."""

    captioner: Captioner
    dataset: Dataset

    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 1

    @property
    def backend(self) -> Captioner:
        """Returns the captioner."""
        return self.captioner

    def item_id(self, item: CaptionItem) -> str:
        """Returns the id of the sample."""
        return item.sample.id

    def key(self, item: CaptionItem) -> Any:
        """Returns what a caption depends on."""
        return [dataset_key(self.dataset), item.source_key, dict(item.sample.attributes), item.seed]

    def work(self, backend: Captioner, batch: Sequence[CaptionItem]) -> Sequence[StepResult | Exception]:
        """Returns the texts."""
        samples = [item.sample for item in batch]
        captions = backend.caption(samples, self.dataset, [item.seed for item in batch])
        return wrap_results([_check_text(caption) for caption in captions])

    def decode(self, value: str) -> Caption:
        """Returns the caption."""
        return Caption(value)


def _check_text(caption: Any) -> str | Exception:
    """Returns the text of a caption; an ItemError for what is no caption."""
    if isinstance(caption, Exception):
        return caption
    if not isinstance(caption, Caption) or not isinstance(caption.text, str):
        return ItemError(f"the captioner returned {caption!r:.200} instead of a caption")
    return storable(caption.text)
