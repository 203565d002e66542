"""Captions from the annotations of the data set, without a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..backend import Dataset
from ..errors import ItemError, UserError
from ..fields import BatchSize
from ..types import Caption, Sample

SMALLEST_SHARE = 0.01  # of the pixels; smaller classes are not named


@dataclass
class AnnotationCaptioner:
    """A sentence filled in from a sample's annotations.

    Attributes:
        template: May name any attribute of the sample, `{label}` (the name of its class) and `{classes}`
            (the classes in its mask, the largest first).
    """

    template: str = "a {weather} {time of day} scene with {classes}"
    batch_size: BatchSize = 32

    version: ClassVar[int] = 1

    def load(self) -> None:
        """Does nothing: there is no model."""

    def caption(
        self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]
    ) -> list[Caption | Exception]:
        """Returns one caption a sample; an ItemError if a sample lacks a name of the template."""
        captions: list[Caption | Exception] = []
        for sample in samples:
            try:
                captions.append(self._caption(sample, dataset))
            except ItemError as error:
                captions.append(error)
        return captions

    def _caption(self, sample: Sample, dataset: Dataset) -> Caption:
        annotations = dict(sample.attributes)
        if sample.label is not None:
            annotations["label"] = dataset.classes[sample.label]
        if "{classes}" in self.template and (mask := sample.mask) is not None:
            annotations["classes"] = ", ".join(_visible_classes(mask, dataset))
        try:
            return Caption(self.template.format_map(annotations))
        except KeyError as missing:
            names = ", ".join(annotations) or "nothing"
            message = f"captioner.template names {{{missing.args[0]}}}; sample {sample.id} has: {names}"
            if name := "label" if "label" in annotations else next(iter(annotations), ""):
                message += f". Name only these, as in captioner.template='a photo, {{{name}}}'"
            raise ItemError(message) from missing
        except ValueError as error:
            raise UserError(f"captioner.template {self.template!r}: {error}") from error


def _visible_classes(mask: np.ndarray, dataset: Dataset) -> list[str]:
    """Returns the names of the classes in a mask that are scored, the largest first."""
    counts = np.bincount(mask.ravel(), minlength=256)
    ids = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i] >= SMALLEST_SHARE * mask.size]
    return [dataset.classes[i] for i in ids if i not in dataset.ignored and i < len(dataset.classes)]


@dataclass
class LabelCaptioner(AnnotationCaptioner):
    """A sentence that names the class of the sample."""

    template: str = "a photo of a {label}"
