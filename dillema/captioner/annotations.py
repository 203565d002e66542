"""Captions without a model: from what the data set knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import ItemError, UserError
from ..types import Caption, Dataset, Sample

LEAST = 0.01  # share of the pixels from which on a class is worth a mention


@dataclass
class AnnotationCaptioner:
    """A sentence filled in from a sample's annotations.

    The template may name any attribute of the sample, `{label}` (the name of its class) and `{classes}` (what its mask
    shows, the largest first).
    """

    template: str = "a {weather} {time of day} scene with {classes}"
    batch_size: int = 32

    transient: ClassVar[tuple[str, ...]] = ("batch_size",)
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ()

    def load(self) -> None:
        """Does nothing: there is no model."""

    def caption(self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]) -> list[Caption]:
        """Returns one caption a sample; raises an ItemError when a sample lacks what the template names."""
        return [self._caption(sample, dataset) for sample in samples]

    def _caption(self, sample: Sample, dataset: Dataset) -> Caption:
        known = dict(sample.attributes)
        if sample.label is not None:
            known["label"] = dataset.classes[sample.label]
        if "{classes}" in self.template and (mask := sample.mask) is not None:
            counts = np.bincount(mask.ravel(), minlength=256)
            largest = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i] >= LEAST * mask.size]
            known["classes"] = ", ".join(dataset.classes[i] for i in largest if i not in dataset.ignored and i < len(dataset.classes))
        try:
            return Caption(self.template.format_map(known))
        except KeyError as missing:
            message = f"captioner.template names {{{missing.args[0]}}}; sample {sample.id} knows only: {', '.join(known) or 'nothing'}"
            raise ItemError(message) from missing
        except ValueError as error:
            raise UserError(f"captioner.template {self.template!r}: {error}") from error


@dataclass
class LabelCaptioner(AnnotationCaptioner):
    """A sentence that names the class of the sample."""

    template: str = "a photo of a {label}"
