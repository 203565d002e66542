"""A gate outside the package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from dillema.backend import Dataset
from dillema.fields import BatchSize, Share, Transient
from dillema.types import Counterfactual, Sample


@dataclass
class RedGate:
    """Rejects images with much red."""

    name: Transient[str] = "red"
    max_red: Transient[Share] = 0.9
    batch_size: BatchSize = 16

    version: ClassVar[int] = 1
    scores: ClassVar[tuple[str, ...]] = ("share",)

    def load(self) -> None:
        """Does nothing: there is no model."""

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> Sequence[Mapping[str, float] | Exception]:
        """Returns the mean of the red channel, from 0 to 1."""
        return [{"share": float(np.asarray(image)[..., 0].mean() / 255)} for image in images]

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns whether there is too much red."""
        return [f"too red: {scores['share']:.2f}"] if scores["share"] > self.max_red else []
