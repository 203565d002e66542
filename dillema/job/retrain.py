"""The job that retrains models under test on counterfactuals, and measures the gain."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import attribute_check, predictions, report
from ..backend import Reference, Renders
from ..config import build, refuse
from ..context import JobContext
from ..dataset import split
from ..errors import UserError
from ..fields import AboveZero, Constraint, Positive
from ..files import write_atomically
from ..gate_check import refuse_unknown_classes
from ..pipeline import Pipeline
from ..preflight import check_models, check_weights
from ..reference import list_items, name_condition
from ..report import retraining, thumbnails, words
from ..retraining import ARMS, COUNTERFACTUALS
from ..retraining.arms import ArmTrainer, TrainingSource
from ..retraining.held_out import (
    HeldOutImage,
    iterate_batches,
    join_equal_samples,
    list_real_images,
    make_counterfactual,
)
from ..run_folder import FAILURES, PREDICTIONS, RESULTS, RunFolder
from ..runner import Runner
from ..steps.predict import PredictStep
from ..steps.source import SourceStep, read_samples
from ..steps.verdict import score_names
from ..tracking.run import track
from ..types import REFERENCE, Sample
from .links import point_latest
from .retraining_figures import RetrainingFigures
from .run import build_pipeline, build_runner, check_inputs, generate

__all__ = ["check_inputs", "find_mistakes", "retrain"]

log = logging.getLogger(__name__)

IMAGES_IN_MEMORY = 1024  # test images whose records are in memory: some 15 KB each for a street scene
EXAMPLES = 3  # training images that the page shows
TRAINABLE = (
    "a network of torch is needed, whose weights can be changed and saved: a model of transformers, "
    "torchvision or timm, or model=module with its class"
)

Fraction = Annotated[float, Constraint("between 0 and 1", lambda value: 0 < value < 1)]
ShareAboveZero = Annotated[float, Constraint("above 0 and 1 at most", lambda value: 0 < value <= 1)]
Seeds = Annotated[
    Sequence[int],
    Constraint(
        "from 0 on, one or more and none twice",
        lambda value: value and min(value) >= 0 and len({*value}) == len(value),
    ),
]


def find_mistakes(cfg: DictConfig) -> Iterator[str]:
    """Yields a message for each model under test that cannot be trained, for a shard, and those of a run."""
    yield from attribute_check.find_mistakes(cfg)
    if cfg.get("shard") is not None:
        yield "shard: job=retrain needs all sources; shards are for job=run, whose results job=merge joins"
    if not cfg.model:
        yield "model: job=retrain needs a model to train: add model=..."
    for model in map(build, cfg.model.values()):
        if not getattr(model, "trainable", False):
            yield f"model.{model.name}: {type(model).__name__} cannot be trained as it is set; {TRAINABLE}"


def retrain(
    context: JobContext,
    test_fraction: Fraction,
    seeds: Seeds,
    steps: Positive,
    batch_size: Positive,
    learning_rate: AboveZero,
    share: ShareAboveZero,
    conditions: Sequence[str],
) -> RunFolder:
    """Trains the models under test further in three arms; returns the run folder.

    All arms start from the same weights and train for the same number of steps. One arm trains on originals
    only; in the other two, augmented images or counterfactuals replace a share of the originals.

    Args:
        context: The settings and the run folder.
        test_fraction: The share of the groups of sources that is held out for the test.
        seeds: Every arm is trained once with each of them.
        steps: The number of steps of each training.
        batch_size: The number of images of a step.
        learning_rate: The largest learning rate of the schedule.
        share: The share of augmented images or counterfactuals among the images drawn, in the arms that have
            them.
        conditions: Attributes whose values are rendered in all combinations, if the data set can render.
    """
    from ..retraining.training import Schedule

    start = time.perf_counter()
    log.info("Importing the libraries of this run; its folder is %s", context.folder.absolute())
    with track(context) as tracked_run:
        pipeline, runner = build_pipeline(context), build_runner(context, tracked_run.wait)
        samples = read_samples(pipeline.dataset)
        _check_conditions(pipeline, samples, conditions)
        train, test = _split(pipeline, samples, test_fraction, context.folder)
        refuse_unknown_classes(pipeline.gates, pipeline.dataset)
        check_weights(context.cfg)
        check_models(pipeline, runner, samples)
        trainings = len(pipeline.models) * len(ARMS) * len(seeds)
        log.info("%d trainings of %d steps follow the counterfactuals", trainings, steps)
        folder = generate(context, replace(pipeline, models=(), placebos=0), runner, start)
        results = dict(folder.results)
        (context.folder / RESULTS).unlink()  # the run is complete only when the models are trained
        schedule = Schedule(steps, batch_size, learning_rate, share)
        training = _Retraining(context, pipeline, folder, train, test, schedule, seeds, conditions)
        results |= training.run(results)
        results["wall_seconds"] = round(time.perf_counter() - start, 3)
        folder.write_results({name: value for name, value in results.items() if name != "version"})
        with runner.store.healing():
            report.write(folder)
        tracked_run.log(folder)
    for name, figures in folder.results["models"].items():
        _show(name, figures["retraining"], bool(folder.results["gates"]))
    log.info("Folder:  %s (open report.html)", folder.path.absolute())
    if tracked_run.address:
        log.info("MLflow:  %s", tracked_run.address)
    point_latest(context.folder)
    return folder


class _Retraining:
    """Trains the models of a run in all arms with all seeds, and tests them."""

    def __init__(
        self, context: JobContext, pipeline: Pipeline, folder: RunFolder, train: Sequence[Sample],
        test: Sequence[Sample], schedule: Any, seeds: Sequence[int], conditions: Sequence[str],
    ) -> None:  # fmt: skip
        self.pipeline, self.folder, self.labels = pipeline, folder, folder.labels
        self.runner: Runner = build_runner(context)
        step = SourceStep(pipeline.dataset, pipeline.size)
        self.sources = self.runner.run(step, [*train, *test])
        self.runner.failures.clear()  # the run listed these failures already
        self.test = [sample for sample in test if sample.id in self.sources]
        if not self.test:
            raise UserError("no source to test on can be read: see failures.jsonl")
        self.images = list_real_images(self.test, self.sources, pipeline.dataset, conditions)
        if context.cfg.get("reference"):
            self.images += self._list_reference(build(context.cfg.reference))
        self.trainer = ArmTrainer(
            self.runner.store.folder / "retrained", pipeline.dataset, pipeline.size.key,
            self._training_sources(train), schedule, seeds, len(pipeline.models),
        )  # fmt: skip
        self.failed: dict[str, set[str]] = {}
        self.unseen = _unseen_classes(pipeline, train, test)

    def _list_reference(self, reference: Reference) -> list[HeldOutImage]:
        """Returns the images of a reference, with their conditions."""
        samples = reference.samples(self.pipeline.dataset)
        sources = self.runner.run(SourceStep(self.pipeline.dataset, self.pipeline.size), samples)
        images = []
        for item in list_items(sources):
            values = " ".join(item.sample.attributes[name] for name in reference.normal)
            edits = name_condition(reference, item.sample)
            condition = f"{values} ({REFERENCE})"
            images.append(HeldOutImage(item.sample.id, REFERENCE, item.sample, item, edits, condition))
        return images

    def run(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Trains and tests all models; returns the additional entries of results.json."""
        path, failures = self.folder.path / PREDICTIONS, self.folder.failures()
        try:
            dataset = self.pipeline.dataset
            scores = score_names(self.pipeline.gates, dataset.classes)
            predictions.write(path, self._rows(), dataset, scores)
        finally:
            failures += self.runner.failures
            lines = "".join(json.dumps(failure) + "\n" for failure in failures)
            write_atomically(self.folder.path / FAILURES, lines)
        figures = RetrainingFigures(
            self.folder, self.labels, self.trainer, self.images, self.test, self.unseen,
            self.pipeline.seed, self.failed,
        )  # fmt: skip
        seconds = {**results["seconds"], **self.runner.seconds, "training": self.trainer.seconds}
        return {
            "counts": {**results["counts"], "failed": len(failures)},
            "models": {model.name: figures.compute(model.name) for model in self.pipeline.models},
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "examples": self._write_examples(),
        }

    def _training_sources(self, train: Sequence[Sample]) -> list[TrainingSource]:
        """Returns the sources to train on with their valid counterfactuals."""
        counterfactuals: dict[str, list[Path]] = {}
        for image in self.folder.generated():
            if image.verdict.valid:
                counterfactuals.setdefault(image.source, []).append(self.runner.store.image(image.key))
        sources = [
            TrainingSource(sample, self.sources[sample.id].image, tuple(counterfactuals.get(sample.id, ())))
            for sample in train
            if sample.id in self.sources
        ]
        if not any(source.counterfactuals for source in sources):
            raise UserError(
                "no counterfactual of a source to train on is valid: see failures.jsonl and the page, "
                "or raise dataset.limit or counterfactuals"
            )
        return sources

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yields the rows of predictions.parquet; trains the variants that are not trained yet."""
        for model in self.pipeline.models:
            failed = self.failed[model.name] = set()
            for name, variant in self.trainer.variants(model, self.folder.path):
                step = PredictStep(variant, self.pipeline.dataset, self.runner.executor.devices)
                for batch in iterate_batches(self._test_images(), IMAGES_IN_MEMORY):
                    images = [image for image in batch if image.id not in failed]
                    outcomes = self.runner.run(step, [image.item for image in images])
                    failed.update(image.id for image in images if image.item.image_id not in outcomes)
                    for image in images:
                        if image.item.image_id in outcomes:
                            yield _row(name, image, outcomes[image.item.image_id].value)

    def _test_images(self) -> Iterator[HeldOutImage]:
        """Yields originals, renders and valid counterfactuals of the test sources."""
        yield from self.images
        samples = {sample.id: sample for sample in self.test}
        for image in self.folder.generated():
            if image.verdict.valid and image.source in samples:
                key, path = self.sources[image.source].key, self.runner.store.image(image.key)
                yield make_counterfactual(
                    image.id, samples[image.source], key, path, image.counterfactual.edits
                )

    def _write_examples(self) -> list[dict[str, Any]]:
        """Writes small copies of some training images to the run folder; returns their texts and files."""
        texts = {image.key: image.counterfactual.text for image in self.folder.generated()}
        examples = []
        with_counterfactuals = [source for source in self.trainer.sources if source.counterfactuals]
        for number, source in enumerate(with_counterfactuals[:EXAMPLES]):
            path = source.counterfactuals[0]
            images = {
                "original": thumbnails.shrink_file(source.original),
                "augmented": thumbnails.shrink(self.trainer.augment_example(source, number)),
                "counterfactual": thumbnails.shrink_file(path),
            }
            files = {kind: f"{thumbnails.FOLDER}/examples/{number}-{kind}.jpg" for kind in images}
            for kind, content in images.items():
                write_atomically(self.folder.path / files[kind], content)
            examples.append({"text": texts[path.stem], "images": files})
        return examples


def _row(name: str, image: HeldOutImage, record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row of predictions.parquet; leaves out the error map, which the page does not show."""
    sample = image.sample
    return predictions.row(
        name,
        image.name,
        sample.id,
        image.kind,
        {**record, "error_map": None},
        group=sample.group,
        edits=image.edits,
    )


def _check_conditions(pipeline: Pipeline, samples: Sequence[Sample], conditions: Sequence[str]) -> None:
    """Raises a UserError for conditions that are not attributes of all sources."""
    if not isinstance(pipeline.dataset, Renders):
        return
    attributes = frozenset.intersection(*(frozenset(sample.attributes) for sample in samples))
    names = ", ".join(sorted(attributes))
    refuse(
        [
            f"job.conditions: the sources have no attribute {c!r}; they have {names}"
            for c in conditions
            if c not in attributes
        ]
    )


def _split(
    pipeline: Pipeline, samples: Sequence[Sample], fraction: float, folder: Path
) -> tuple[list[Sample], list[Sample]]:
    """Returns the sources to train on and those to test on; writes split.json."""
    train, test = split(join_equal_samples(samples), fraction, pipeline.seed)
    parts = {"train": [sample.id for sample in train], "test": [sample.id for sample in test]}
    write_atomically(folder / "split.json", json.dumps(parts, indent=2))
    log.info("split by group: %d sources to train on, %d to test on", len(train), len(test))
    if not any(sample.group for sample in samples) and not isinstance(pipeline.dataset, Renders):
        log.warning(
            "the data set names no groups (dataset.group, where it has one): frames of one video, if any, "
            "may be trained on and tested on"
        )
    if unseen := _unseen_classes(pipeline, train, test):
        log.warning(retraining.describe_unseen(unseen))
    return train, test


def _unseen_classes(pipeline: Pipeline, train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """Returns the classes of test sources that no training source has; none for tasks with masks."""
    labels = {sample.label for sample in test if sample.label is not None} - {
        sample.label for sample in train
    }
    return [pipeline.dataset.classes[label] for label in sorted(labels)]


def _show(model: str, figures: Mapping[str, Any], checked: bool) -> None:
    """Shows the figures of a model in the terminal."""
    metric = words.format_metric_name(figures["metric"])
    title = f"{model}: {metric} on untouched sources, {len(figures['seeds'])} seeds"
    kinds, names = list(figures["images"]), retraining.name_kinds(checked)
    table = Table("trained on", *(names[kind] for kind in kinds), title=title)
    for arm, part in figures["arms"].items():
        table.add_row(*map(Text, (arm, *(retraining.share(part[kind]) for kind in kinds))))
    table.add_section()
    for other in ARMS[:-1]:
        differences = figures["arms"][COUNTERFACTUALS]["over"][other]
        cells = (
            f"{COUNTERFACTUALS} minus {other}, points",
            *(retraining.gain(differences[kind]) for kind in kinds),
        )
        table.add_row(*map(Text, cells))
    Console().print(table)
    log.info("%s", " ".join(retraining.verdict(model, figures, checked)))
