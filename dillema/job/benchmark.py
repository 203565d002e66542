"""The job that measures the stages of a configuration."""

import logging
from typing import Any

from ..context import JobContext
from ..execution.local import Local
from ..fields import Positive
from ..preflight import check_models, check_weights
from ..steps.source import read_samples, sort_samples
from ..store import Store
from .run import build_pipeline

log = logging.getLogger(__name__)


def benchmark(context: JobContext, sources: Positive, items: Positive, rounds: Positive) -> None:
    """Runs the pipeline on a few sources and measures each stage on its items; writes both files.

    The files are written after each stage. A stage that cannot be measured leaves its error, and the others
    go on. Everything runs in this process, whatever `execution` says.

    Args:
        context: The configuration; its folder receives benchmark.json and benchmark.md.
        sources: How many sources are run through the pipeline.
        items: On how many items a stage is measured at most.
        rounds: How often a stage is measured.

    Raises a UserError if the pipeline itself stops; what was measured until then is kept.
    """
    from ..benchmark import Measuring, describe_machine, write_results

    pipeline, machine = build_pipeline(context), describe_machine()
    executor: Any = Local()
    runner = Measuring(
        Store(context.cfg.store),
        executor,
        context.cfg.max_failures,
        context.cfg.retry_failed,
        per_source=dict(pipeline.list_steps()),
        most_items=items,
        rounds=rounds,
        after_stage=lambda stages: write_results(context.folder, machine, stages, rounds),
    )
    samples = sort_samples(read_samples(pipeline.dataset))[:sources]
    check_weights(context.cfg)
    check_models(pipeline, runner, samples)
    log.info(
        "measuring %d stages on %d sources, %d rounds each", len(runner.per_source), len(samples), rounds
    )
    pipeline.run_block(runner, samples)
    log.info("Measured: %s", context.folder / "benchmark.md")
