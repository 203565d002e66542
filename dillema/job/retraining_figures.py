"""Computes the figures of a retraining from its predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import numpy as np

from .. import predictions as predictions_file
from .. import statistics
from ..predictions import Predictions
from ..report.retraining import IMAGE_KINDS, UNTOUCHED
from ..retraining import ARMS, COUNTERFACTUALS
from ..retraining.arms import ArmTrainer, variant_name
from ..retraining.held_out import HeldOutImage
from ..run_folder import Labels, RunFolder
from ..types import ORIGINAL, REFERENCE, TRUTH, Sample

TRAINING_FIGURES = ("steps", "seconds", "drawn", "loss", "weights")


@dataclass
class RetrainingFigures:
    """Computes the figures of each model.

    Attributes:
        failed: By model, the ids of images that it failed on, before or after a training. They are left out.
        images: The originals, renders and images of the reference.
        unseen: Classes of test sources that no training source has.
    """

    folder: RunFolder
    labels: Labels
    trainer: ArmTrainer
    images: Sequence[HeldOutImage]
    test: Sequence[Sample]
    unseen: Sequence[str]
    seed: int
    failed: dict[str, set[str]] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Returns the kinds of images that models are tested on."""
        has_reference = any(image.kind == REFERENCE for image in self.images)
        return (*IMAGE_KINDS, REFERENCE) if has_reference else IMAGE_KINDS

    def compute(self, model: str) -> dict[str, Any]:
        """Returns the figures of the model before the training, and (`retraining`) those of all arms."""
        seeds = self.trainer.seeds
        untouched = self._read_predictions(model)
        runs = {UNTOUCHED: [self._metrics(untouched, model)]}
        sums: dict[tuple[str, str], list[np.ndarray]] = {}
        for arm, seed in product(ARMS, seeds):
            predictions = self._read_predictions(variant_name(model, arm, seed))
            runs.setdefault(arm, []).append(self._metrics(predictions, model))
            for kind in self.kinds:
                rows = np.flatnonzero(self._select_rows(predictions, model, kind))
                sums.setdefault((arm, kind), []).append(statistics.sums_by_group(predictions, rows))
        task = untouched.task
        over_sources = {
            other: {
                kind: statistics.compare_trainings(
                    task, sums[COUNTERFACTUALS, kind], sums[other, kind], self.seed
                )
                for kind in self.kinds
            }
            for other in ARMS
            if other != COUNTERFACTUALS
        }
        retraining = {
            "metric": task.metric,
            "level": statistics.LEVEL,
            "seeds": list(seeds),
            "rough": len(seeds) < statistics.ENOUGH_SEEDS,
            "sources": {"train": len(self.trainer.sources), "test": len(self.test)},
            "counterfactuals": sum(len(source.counterfactuals) for source in self.trainer.sources),
            "images": {kind: int(self._select_rows(untouched, model, kind).sum()) for kind in self.kinds},
            "home": sorted({image.condition for image in self.images if image.kind == ORIGINAL}),
            "unseen": list(self.unseen),
            "training": asdict(self.trainer.schedule),
            "arms": self._summarise_arms(model, runs),
            "over_sources": over_sources,
        }
        return statistics.summary(untouched, self.seed, valid=True) | {"retraining": retraining}

    def _summarise_arms(
        self, model: str, runs: Mapping[str, Sequence[dict[str, Any]]]
    ) -> dict[str, dict[str, Any]]:
        """Returns the means over seeds of each arm, and (`over`) of its differences from the earlier arms."""
        seeds = self.trainer.seeds
        arms: dict[str, dict[str, Any]] = {}
        for arm, metrics in runs.items():
            figures = mean_over_seeds(metrics, share=True)
            figures["over"] = {}
            for other in arms:
                references = list(runs[other]) * (len(metrics) if len(runs[other]) == 1 else 1)
                differences = [
                    subtract(first, second) for first, second in zip(metrics, references, strict=True)
                ]
                figures["over"][other] = mean_over_seeds(differences, share=False)
            if arm != UNTOUCHED:
                trainings = [self.trainer.statistics[model, arm, seed] for seed in seeds]
                figures |= {name: [training[name] for training in trainings] for name in TRAINING_FIGURES}
            arms[arm] = figures
        return arms

    def _read_predictions(self, name: str) -> Predictions:
        return predictions_file.read(self.folder.predictions_file, name, self.labels)

    def _select_rows(self, predictions: Predictions, model: str, kind: str) -> np.ndarray:
        """Returns whether each row is an image of a kind on which no variant of the model failed."""
        failed = self.failed.get(model, set())
        answered = np.array([f"{image} ({kind})" not in failed for image in predictions.image], bool)
        return (predictions.kind == kind) & answered

    def _metrics(self, predictions: Predictions, model: str) -> dict[str, Any]:
        """Returns the main metric by kind of image and by condition."""
        condition_by_image = {image.name: image.condition for image in self.images}
        conditions = np.array([condition_by_image.get(image, "") for image in predictions.image])

        def score(rows: np.ndarray) -> float:
            return float(predictions.task.score(predictions.tallies[rows].sum(0)))

        rows_by_kind = {kind: self._select_rows(predictions, model, kind) for kind in self.kinds}
        real = rows_by_kind[ORIGINAL] | rows_by_kind[TRUTH]
        if REFERENCE in rows_by_kind:
            real |= rows_by_kind[REFERENCE]
        names = [name for name in dict.fromkeys(condition_by_image.values()) if name]
        per_condition = {name: score(real & (conditions == name)) for name in names}
        return {kind: score(rows) for kind, rows in rows_by_kind.items()} | {"per_condition": per_condition}


def subtract(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the differences of two sets of figures of the same form."""
    return {
        name: subtract(value, second[name]) if isinstance(value, Mapping) else value - second[name]
        for name, value in first.items()
    }


def mean_over_seeds(runs: Sequence[Mapping[str, Any]], *, share: bool) -> dict[str, Any]:
    """Returns the mean of each figure over seeds; the interval of a `share` stays between 0 and 1."""
    return {
        name: mean_over_seeds([run[name] for run in runs], share=share)
        if isinstance(value, Mapping)
        else statistics.over_seeds([run[name] for run in runs], share=share)
        for name, value in runs[0].items()
    }
