"""The scores of several gates decide together, with weights that job=calibrate has learnt from people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import ClassVar

from PIL import Image

from ..backend import Dataset
from ..fields import BatchSize, Share, Transient
from ..types import Counterfactual, Sample
from . import below


@dataclass
class CombinationGate:
    """Judges images by the probability that people call them good, a logistic function of scores.

    It measures nothing itself and judges in the place of the gates whose scores it has; those must be chosen,
    too. For a score that an image lacks, its mean is taken.

    Attributes:
        weights: Of each score, "<gate>.<score>", after it was standardised.
        means: Of each score.
        scales: The standard deviation of each score.
    """

    weights: Transient[Mapping[str, float]]
    means: Transient[Mapping[str, float]]
    scales: Transient[Mapping[str, float]]
    intercept: Transient[float] = 0.0
    name: Transient[str] = "combination"
    min_probability: Transient[Share] = 0.5
    batch_size: BatchSize = 256

    version: ClassVar[int] = 1
    scores: ClassVar[tuple[str, ...]] = ()

    @property
    def combines(self) -> frozenset[str]:
        """Returns the names of the gates in whose place it judges."""
        return frozenset(name.partition(".")[0] for name in self.weights)

    def load(self) -> None:
        """Does nothing: there is no model."""

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float]]:
        """Returns no score: it reads those of the other gates."""
        return [{} for _ in images]

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns whether the probability is too low; `scores` are those of all gates, "<gate>.<score>"."""
        if not any(name in scores for name in self.weights):
            return [f"there is none of the scores {', '.join(self.weights)}"]
        log_odds = self.intercept + sum(
            weight * (scores[name] - self.means[name]) / self.scales[name]
            for name, weight in self.weights.items()
            if name in scores
        )
        probability = 1 / (1 + exp(-min(max(log_odds, -500.0), 500.0)))
        return below({"": probability}, "", self.min_probability, "probability of a good image")
