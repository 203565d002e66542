"""The main job: makes counterfactuals of a data set, and tests models on them."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .. import attribute_check, estimate, hub, licences, predictions, report
from ..conditioning.several import conditionings_by_name
from ..config import build
from ..context import JobContext
from ..dataset import check_masks, describe
from ..errors import NoWeights, UserError, machine_errors
from ..gate_check import describe_unseen_masks, find_shared_weights, refuse_unknown_classes
from ..keys import digest
from ..model.classes import check_task
from ..overrides import prefetch_command
from ..pipeline import Pipeline
from ..preflight import check_conditionings, check_models, check_weights
from ..progress import Forecast
from ..reference import describe_reference, predict_reference
from ..run_folder import PREDICTIONS, RunFolder
from ..run_writer import RunWriter
from ..runner import Runner
from ..shard import Shard
from ..steps.items import GeneratedImage
from ..steps.results import Block
from ..steps.source import read_samples, sort_samples
from ..steps.verdict import score_names
from ..store import Store
from ..task import get_task
from ..tracking.run import track
from ..types import Sample
from .figures import compute_figures, describe_distance, measure_distance
from .links import point_latest, point_running
from .shard import ShardResults, describe_work
from .summary import show

log = logging.getLogger(__name__)


def find_mistakes(cfg: DictConfig) -> Iterator[str]:
    """Yields a message for attributes that are misspelt, and for a reference of a shard."""
    yield from attribute_check.find_mistakes(cfg)
    if cfg.get("shard") is not None and cfg.get("reference"):
        yield "reference: a shard has none; score it in a run without shards"


def check_inputs(cfg: DictConfig) -> None:
    """Raises the UserError of the data set if its folder is missing."""
    root = OmegaConf.select(cfg, "dataset.root")
    if isinstance(root, str) and not Path(root).expanduser().exists():
        build(cfg.dataset).samples()


def run(context: JobContext) -> RunFolder:
    """Runs the pipeline, writes the run folder and logs the figures to MLflow; returns the run folder.

    With a shard, the folder has no figures yet, and MLflow hears nothing: `job=merge` joins the shards.
    """
    start = time.perf_counter()
    log.info("Importing the libraries of this run; its folder is %s", context.folder.absolute())
    if context.cfg.shard is not None:
        return run_shard(context, start)
    with track(context) as tracked_run:
        pipeline, runner = build_pipeline(context), build_runner(context, tracked_run.wait)
        with hub.sharing(find_shared_weights(context.cfg.captioner, context.cfg.validity)):
            folder = generate(context, pipeline, runner, start)
        log.info("Writing the page")
        with runner.store.healing():
            report.write(folder)
        tracked_run.log(folder)
    show(folder)
    if tracked_run.address:
        log.info("MLflow:  %s", tracked_run.address)
    point_latest(context.folder)
    return folder


def build_pipeline(context: JobContext) -> Pipeline:
    """Returns the pipeline that a configuration describes; raises a UserError for models of another task."""
    cfg = context.cfg
    dataset, models = build(cfg.dataset), [build(block) for block in cfg.model.values()]
    for model in models:
        check_task(model, dataset)
    if not models:
        log.info("No model is tested: add model=...")
    return Pipeline(
        dataset=dataset,
        captioner=build(cfg.captioner),
        editor=build(cfg.prompt),
        edits=build(cfg.edits),
        conditionings=conditionings_by_name(build(cfg.conditioning)),
        generator=build(cfg.generator),
        gates=[build(block) for block in (cfg.validity or {}).values()],
        models=models,
        quality=build(cfg.quality) if cfg.get("quality") else None,
        counterfactuals=cfg.counterfactuals,
        images_per_counterfactual=cfg.images_per_counterfactual,
        correct_captions=cfg.correct_captions,
        synonyms=cfg.prompt.get("synonyms"),
        placebos=cfg.placebo,
        seed=cfg.seed,
    )


def build_runner(context: JobContext, before_work: Callable[[], None] = lambda: None) -> Runner:
    """Returns the runner that a configuration describes."""
    cfg = context.cfg
    preview = report.Preview(context.folder, checked=bool(cfg.validity))
    return Runner(
        Store(cfg.store),
        build(cfg.execution),
        cfg.max_failures,
        cfg.retry_failed,
        before_work=before_work,
        after_batch=preview.add,
    )


def run_shard(context: JobContext, start: float) -> RunFolder:
    """Runs the pipeline on the sources of one shard; returns its folder, which holds no finished run.

    `start` is the time at which the run began, by time.perf_counter.
    """
    pipeline, runner = build_pipeline(context), build_runner(context)
    runner.allow_total_failure = True  # the shards together decide; `max_failures` holds for each
    shard = Shard.parse(context.cfg.shard)
    weights = find_shared_weights(context.cfg.captioner, context.cfg.validity)
    with hub.sharing(weights):
        totals = process(context, pipeline, runner, prepare(context, pipeline, runner, shard))
    results = ShardResults(
        shard=str(shard),
        run=_describe(context, pipeline),
        models=[model.name for model in pipeline.models],
        made_from=describe_work(context.cfg, pipeline),
        sources=totals.sources,
        sources_digest=totals.sources_digest,
        source_keys={image.sample.id: image.original.stem for image in totals.valid},
        counts=dict(totals.counts),
        items=dict(runner.items),
        seconds=runner.seconds,
        wall_seconds=time.perf_counter() - start,
        plan=totals.plan,
        store=runner.store.address,
    )
    results.write(context.folder)
    log.info("shard %s: %d sources are done. Once all shards are: job=merge 'job.runs=[...]'", shard,
             totals.counts["sources"])  # fmt: skip
    log.info("Folder:  %s", context.folder)
    return RunFolder(context.folder)


@machine_errors()
def generate(context: JobContext, pipeline: Pipeline, runner: Runner, start: float) -> RunFolder:
    """Runs all steps and writes everything but the page; of a run that fails, failures and a page too.

    A run that is refused before it begins writes nothing. `start` is the time at which the run began, by
    time.perf_counter.
    """
    folder = RunFolder(context.folder)
    prepared = prepare(context, pipeline, runner)
    try:
        return _generate(context, pipeline, runner, start, prepared)
    except UserError as error:
        fetch = prefetch_command(context.overrides) if isinstance(error, NoWeights) else ""
        report.write_failed(folder, str(error), fetch)
        raise


@machine_errors()
def _generate(
    context: JobContext, pipeline: Pipeline, runner: Runner, start: float, prepared: "Prepared"
) -> RunFolder:
    folder = RunFolder(context.folder)
    totals = process(context, pipeline, runner, prepared)
    results = _describe(context, pipeline) | {
        "counts": {**totals.counts, "failed": len(runner.failures)},
        "seconds": {name: round(seconds, 3) for name, seconds in runner.seconds.items()},
        "wall_seconds": round(time.perf_counter() - start, 3),
        "plan": {name: dict(sorted(values.items())) for name, values in sorted(totals.plan.items())},
        "distance": totals.distance,
        "reference": totals.reference,
    }
    models = [model.name for model in pipeline.models]
    log.info("All images are done: computing the results")
    with runner.store.healing():
        folder.write_results(results | compute_figures(folder, results, models))
    return folder


def prepare(
    context: JobContext, pipeline: Pipeline, runner: Runner, shard: Shard | None = None
) -> "Prepared":
    """Returns what the steps work on; raises a UserError for what would fail later. Writes no file."""
    with _in_order(runner):
        samples = read_samples(pipeline.dataset)
        log.info("%s", describe(pipeline.dataset, samples))
        for sentence in attribute_check.describe_unknown(context.cfg):
            log.warning("%s", sentence)
        check_masks(samples, pipeline.dataset)
        check_conditionings(pipeline, samples)
        refuse_unknown_classes(pipeline.gates, pipeline.dataset)
        _warn_of_unseen_masks(context.cfg, pipeline.dataset.task)
        samples = sort_samples(samples)
        quality = pipeline.quality
        totals = Totals(
            keeps_valid=quality is not None and quality.features is not None,
            sources=len(samples),
            sources_digest=digest([sample.id for sample in samples]),
        )
        if shard is not None:
            samples = shard.choose(samples)
            log.info("shard %s: %d of these sources", shard, len(samples))
        reference = build(context.cfg.reference) if context.cfg.get("reference") else None
        real_images = reference.samples(pipeline.dataset) if reference else []
        price = OmegaConf.select(context.cfg, "tracking.price_per_hour")
        found = estimate.estimate(pipeline, runner, samples, price)
        usual_seconds = runner.store.usual_seconds()  # without the check, which waits for imports
        if not found.is_finished or reference or totals.keeps_valid:  # otherwise nothing is loaded
            runner.before_work()
            check_weights(context.cfg)
            check_models(pipeline, runner, samples)
            found = estimate.estimate(pipeline, runner, samples, price)
        estimate.show(found)
        if runner.executor.blocks == 1:
            runner.forecast = Forecast(pipeline.list_steps(), len(samples), usual_seconds)
    return Prepared(samples, totals, reference, real_images, shard)


def process(context: JobContext, pipeline: Pipeline, runner: Runner, prepared: "Prepared") -> "Totals":
    """Runs all steps; writes images, predictions and failures, these even when the run stops."""
    writer = _make_writer(context, pipeline)
    totals, quality = prepared.totals, pipeline.quality
    reference, real_images = prepared.reference, prepared.real_images
    is_whole = prepared.shard is None
    with _in_order(runner), point_running(context.folder) if is_whole else nullcontext():
        try:
            writer.clear()
            if is_whole:
                point_latest(context.folder, instead_of_finished=False)
            rows = _rows(pipeline.run(runner, prepared.samples), writer, totals)
            if reference:
                totals.reference = describe_reference(reference, real_images)
                if pipeline.models:
                    rows = chain(rows, predict_reference(reference, real_images, pipeline, runner))
            scores = score_names(pipeline.gates, pipeline.dataset.classes)
            predictions.write(context.folder / PREDICTIONS, rows, pipeline.dataset, scores)
            writer.write_card()
            if is_whole and quality is not None:
                distance = describe_distance(
                    (image.id, image.original, image.original.stem, image.path, image.path.stem)
                    for image in totals.valid
                )
                totals.distance = measure_distance(runner, quality, distance)
        finally:
            writer.write_failures(runner.failures, list(runner.seconds))
    return totals


@contextmanager
def _in_order(runner: Runner) -> Iterator[None]:
    """Ends what the runner does in order when this block fails; damaged images are made again later."""
    try:
        with runner.store.healing():
            yield
    except BaseException:
        runner.executor.stop()  # otherwise the process would wait for it before it ends
        raise
    finally:
        runner.store.flush()


def _warn_of_unseen_masks(cfg: DictConfig, task: str) -> None:
    if get_task(task).has_masks and (sentence := describe_unseen_masks(cfg.get("validity") or {})):
        log.warning("%s", sentence)


def _make_writer(context: JobContext, pipeline: Pipeline) -> RunWriter:
    """Returns the writer of the run folder; shows the licences of what the images are made from."""
    listed = licences.list_licences(context.cfg)
    for line in licences.describe(listed):
        log.info("%s", line)
    return RunWriter(
        context.folder,
        pipeline.dataset,
        context.cfg.size,
        context.cfg.save_controls,
        licences.of_images(listed),
    )


@dataclass(frozen=True)
class Prepared:
    """What the steps of a run work on, once all checks have passed.

    Attributes:
        samples: The sources, sorted by id.
        totals: The sums of the run, which the steps add to.
        reference: The option `reference`; None if there is none.
        real_images: The samples of the reference.
        shard: The part of the sources that these samples are; None for all.
    """

    samples: list[Sample]
    totals: "Totals"
    reference: Any
    real_images: list[Sample]
    shard: Shard | None


@dataclass
class Totals:
    """Sums over the blocks of a run.

    Attributes:
        sources: How many sources the data set has, those of other shards too.
        sources_digest: A hash of their ids.
        keeps_valid: Whether sets of images are compared at the end.
        valid: The images that count, if they are kept.
        distance: That of their set from the set of their originals, where it is measured.
        reference: What is known of the reference, where there is one.
    """

    keeps_valid: bool = False
    sources: int = 0
    sources_digest: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    plan: dict[str, Counter[str]] = field(default_factory=dict)
    valid: list[GeneratedImage] = field(default_factory=list)
    distance: dict[str, Any] | None = None
    reference: dict[str, Any] | None = None

    def add(self, block: Block) -> None:
        """Adds a block."""
        self.counts.update(block.counts)
        for image in block.images:
            if image.is_placebo:
                continue
            if self.keeps_valid and image.verdict.valid:
                self.valid.append(image)
            for edit in image.counterfactual.edits:
                self.plan.setdefault(edit.attribute, Counter())[edit.replacement] += 1


def _rows(blocks: Iterator[Block], writer: RunWriter, totals: Totals) -> Iterator[dict[str, Any]]:
    """Yields the rows of predictions.parquet; writes the images of each block as it arrives."""
    for block in blocks:
        writer.add(block.images)
        totals.add(block)
        yield from _rows_of_block(block)
        del block  # it would take memory beside the next one


def _rows_of_block(block: Block) -> Iterator[dict[str, Any]]:
    # by source, so that the file depends neither on the size of a block nor on shards
    for prediction in sorted(block.predictions, key=lambda prediction: prediction.image.source_id):
        image = prediction.image
        yield predictions.row(
            prediction.model,
            image.image_id,
            image.source_id,
            image.kind,
            prediction.record,
            group=image.group,
            edits=image.edits,
            verdict=image.verdict,
            digest=image.digest,
        )


def _describe(context: JobContext, pipeline: Pipeline) -> dict[str, Any]:
    """Returns the part of results.json that describes the run."""
    dataset = pipeline.dataset
    return {
        "name": context.name,
        "dataset": dataset.name,
        "task": dataset.task,
        "classes": list(dataset.classes),
        "colours": [list(colour) for colour in dataset.colours],
        "ignored": sorted(dataset.ignored),
        "seed": pipeline.seed,
        "gates": [gate.name for gate in pipeline.gates],
        "licences": licences.to_rows(licences.list_licences(context.cfg)),
    }
