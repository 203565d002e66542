"""Captions that contradict the class of their source name that class instead."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .backend import Dataset
from .counterfactual.labels import read_synonyms
from .counterfactual.naming import ClassNames
from .runner import Outcome
from .steps.caption import CaptionItem
from .task import get_task
from .types import Caption


def correct_captions(
    captions: Mapping[str, Outcome[CaptionItem]], dataset: Dataset, synonyms: str | None
) -> dict[str, Outcome[CaptionItem]]:
    """Returns captions of which none names another class than its source's.

    A caption that names no class stays as it is, and so do all where the task has no class of an image.

    Args:
        captions: The finished captions by source.
        dataset: The classes.
        synonyms: A file with synonyms of the classes, see `read_synonyms`; None for none.
    """
    correction = _Correction(
        dataset, ClassNames(dataset.classes, read_synonyms(synonyms) if synonyms else {})
    )
    return {name: correction.of(caption) for name, caption in captions.items()}


@dataclass(frozen=True)
class _Correction:
    dataset: Dataset
    class_names: ClassNames

    def of(self, caption: Outcome[CaptionItem]) -> Outcome[CaptionItem]:
        label = get_task(self.dataset.task).label_name(caption.item.sample, self.dataset)
        if not label:
            return caption
        text = self.class_names.correct(caption.value.text, self.dataset.classes.index(label))
        if text == caption.value.text:
            return caption
        return replace(caption, value=Caption(text, uncorrected=caption.value.text))
