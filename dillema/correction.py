"""Captions that contradict the class of their source name that class instead."""

from collections.abc import Mapping
from dataclasses import replace

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
    task, corrected = get_task(dataset.task), dict(captions)
    class_names: ClassNames | None = None
    for name, caption in captions.items():
        if not (label := task.label_name(caption.item.sample, dataset)):
            continue
        if class_names is None:  # takes seconds, which a task without labels need not wait
            class_names = ClassNames(dataset.classes, read_synonyms(synonyms) if synonyms else {})
        text = class_names.correct(caption.value.text, dataset.classes.index(label))
        if text != caption.value.text:
            corrected[name] = replace(caption, value=Caption(text, uncorrected=caption.value.text))
    return corrected
