"""Tries every model under test on one original first, so that a mistake shows before any image is made."""

import logging
from collections.abc import Sequence

from .errors import UserError
from .pipeline import Pipeline
from .runner import Runner
from .steps import items
from .steps.predict import PredictStep
from .steps.source import SourceStep
from .types import Sample

log = logging.getLogger(__name__)

SAMPLES = 3  # samples that are tried, in case the first ones are damaged


def check_models(pipeline: Pipeline, runner: Runner, samples: Sequence[Sample]) -> None:
    """Lets every model predict one original. The run uses its record, so that no work is done twice.

    Raises a UserError for a model that cannot be loaded, whose classes do not fit the data set, or that
    fails.
    """
    probe = Runner(
        runner.store, runner.executor, runner.max_failures, runner.retry_failed, allow_total_failure=True
    )
    first = sorted(samples, key=lambda sample: sample.id)[:SAMPLES]
    sources = probe.run(SourceStep(pipeline.dataset, pipeline.size), first)
    if not sources:
        return  # the run itself reports what is wrong with the samples
    item, _ = items.make_original(next(iter(sources.values())))
    for model in pipeline.models:
        step = PredictStep(model, pipeline.dataset, pipeline.size, runner.executor.devices)
        if not probe.run(step, [item]):
            message = probe.failures[-1]["message"]
            raise UserError(f"model={model.name} cannot predict the original of {item.sample.id}: {message}")
        log.info(
            "model=%s: loaded, its classes fit, and it predicts the original of %s",
            model.name,
            item.sample.id,
        )
