"""A run whose gate draws its scores, and raters with known errors who judge it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from omegaconf import OmegaConf

from dillema.backend import Threshold
from dillema.fields import Share, Transient
from dillema.keys import digest
from dillema.review.answers import Answer
from dillema.review.items import KNOWN
from dillema.validity import below
from tests.backends import Backend, Noise, run_pipeline

TARGET = "tests.review.simulation.Drawn"
SETTINGS = {"_target_": TARGET, "name": "drawn", "min_agreement": 0.2, "min_edited": 0.2}


@dataclass
class Drawn(Backend):
    """A gate whose scores are drawn from 0 to 1."""

    name: Transient[str] = "drawn"
    min_agreement: Transient[Share] = 0.2
    min_edited: Transient[Share] = 0.2

    scores: ClassVar[tuple[str, ...]] = ("agreement", "edited")
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "agreement": Threshold("min_agreement", "label"),
        "edited": Threshold("min_edited", "edit"),
    }

    def score(self, samples: Any, counterfactuals: Any, images: Any, dataset: Any) -> list[dict[str, float]]:
        keys = (digest(sample.id, c.text) for sample, c in zip(samples, counterfactuals, strict=True))
        return [{"agreement": int(k[:6], 16) / 16**6, "edited": int(k[6:12], 16) / 16**6} for k in keys]

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        return below(scores, "agreement", self.min_agreement, "agreement") + below(
            scores, "edited", self.min_edited, "edited"
        )


def make_run(base, sources=60):
    """Returns a finished run of the gate, with the settings that Hydra would leave."""
    folder, _ = run_pipeline(
        base / "run",
        base / "store",
        dataset=Noise(count=sources),
        counterfactuals=5,
        placebos=1,
        gates=[Drawn()],
    )
    (folder.path / ".hydra").mkdir()
    files = {
        "config": {"validity": {"drawn": SETTINGS}},
        "hydra": {"hydra": {"runtime": {"choices": {"validity": "drawn"}}}},
        "overrides": [],
    }
    for name, content in files.items():
        OmegaConf.save(OmegaConf.create(content), folder.path / ".hydra" / f"{name}.yaml")
    return folder


def chance(score):
    """Returns the probability that an image with such a score is good."""
    return 1 / (1 + np.exp(-12 * (score - 0.4)))


def simulate_answers(review, raters, seed=0):
    """Returns the answers of raters, who are given with the share of their wrong answers."""
    random, answers = np.random.default_rng(seed), []
    for number, item in enumerate(review.items):
        scores = review.images[item.image].verdict.scores
        truth = {
            question: "yes" if random.random() < chance(scores[f"drawn.{score}"]) else "no"
            for question, score in (("label", "agreement"), ("edit", "edited"))
        }
        truth |= KNOWN.get(item.kind, {})
        for rater, error in raters.items():
            said = {q: wrong(right) if random.random() < error else right for q, right in truth.items()}
            answers.append(Answer(rater, number, 3, said["label"], said["edit"], 1.0, number))
    return answers


def wrong(answer):
    return "no" if answer == "yes" else "yes"
