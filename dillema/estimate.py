"""Estimates the images, the time, the disk space and the cost of a run before it begins."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backend import Renders
from .downloads import gigabytes
from .image_size import Size
from .keys import digest, identity
from .pipeline import Pipeline
from .progress import typical_seconds
from .runner import Item, Outcome, Runner
from .speeds import read_speed
from .steps.base import Step
from .steps.caption import CaptionStep
from .steps.control import ControlStep
from .steps.gate import GateStep
from .steps.generate import GenerateStep
from .steps.keywords import KeywordsStep
from .steps.predict import PredictStep
from .steps.rewrite import RewriteStep
from .steps.source import SourceStep
from .types import Sample

log = logging.getLogger(__name__)

SMALL_DISK, SMALL_COST = 10e6, 0.01
PNG_SHARE = 0.6  # of the bytes of its pixels that an image takes on the disk, roughly
LOOKED_UP = 200  # sources whose finished work is counted; that of the others is taken to be alike


@dataclass(frozen=True)
class Estimate:
    """What a run takes at most, without the work that the store already holds.

    Attributes:
        images: How many images it generates, placebos included.
        seconds: The time of all steps; None if there is nothing to do.
        unknown: The steps whose time is a typical one, because their back-ends have not run with this store.
        disk: Bytes of images.
        free: Bytes that are free on the disk of the store.
        price: What an hour of the machine costs, if that is known.
        is_finished: Whether the store has all work of the run.
    """

    images: int
    seconds: float | None
    unknown: tuple[str, ...]
    disk: float
    free: float
    price: float | None = None
    is_finished: bool = False

    @property
    def text(self) -> str:
        """Returns the estimate in one line."""
        if self.is_finished:
            return "All images and answers of this run are in the store"
        roughly = "roughly " if self.unknown else ""
        parts = [f"{self.images} images"] if self.images else []
        if self.disk:
            disk = "under 10 MB" if self.disk < SMALL_DISK else gigabytes(self.disk)
            parts.append(f"{disk} of disk ({gigabytes(self.free)} are free)")
        if self.seconds is not None:
            parts.append(f"{roughly}{format_duration(self.seconds)}")
            if self.price:
                cost = self.seconds / 3600 * self.price
                parts.append(f"{roughly}a cost of {cost:.2f}" if cost >= SMALL_COST else "a cost under 0.01")
        text = f"This run takes at most about {', '.join(parts)}; finished work in the store is left out"
        if self.unknown:
            text += f". No run has measured {', '.join(self.unknown)} here: their times are typical of small "
            text += "models, and large ones take many times as long on a CPU"
        return text


def estimate(
    pipeline: Pipeline, runner: Runner, samples: Sequence[Sample], price: float | None = None
) -> Estimate:
    """Returns the estimate for samples; times are those that the same back-ends took in earlier runs."""
    chosen = samples[:: -(-len(samples) // LOOKED_UP)] if samples else []
    lookup = _Lookup(runner.store, runner.executor, retry_failed=runner.retry_failed)
    pipeline.run_block(lookup, chosen)
    seconds, images, files, unknown = 0.0, 0.0, 0.0, []
    is_finished = len(chosen) == len(samples)  # otherwise it is not known of the others
    for step, each in _list_steps(pipeline, runner.executor.devices):
        missing = lookup.count_missing(step, each * len(chosen)) * len(samples) / max(len(chosen), 1)
        is_finished = is_finished and not missing
        images += missing if isinstance(step, GenerateStep) else 0
        files += missing if step.images else 0
        speed = read_speed(runner.store.folder, step)
        seconds += missing * (typical_seconds(step.name) if speed is None else speed)
        if missing and speed is None and step.name not in unknown:
            unknown.append(step.name)
    width, height = pipeline.size.of(_source_size(samples)) if files else (0, 0)
    return Estimate(
        images=round(images),
        seconds=seconds or None,
        unknown=tuple(unknown),
        disk=files * width * height * 3 * PNG_SHARE,
        free=shutil.disk_usage(_existing(runner.store.folder)).free,
        price=price,
        is_finished=is_finished,
    )


def show(found: Estimate) -> None:
    """Logs an estimate; warns if the disk is too small for it."""
    log.info("%s", found.text)
    if found.disk > found.free:
        log.warning("The images may not fit on the disk of the store: make room, or set store=...")


def format_duration(seconds: float) -> str:
    """Returns a duration in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} seconds" if seconds >= 1.5 else "a second"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"


class _Lookup(Runner):
    """Computes nothing: finds what the store has of a run, and counts it by step."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._counts: Counter[tuple[str, bool]] = Counter()  # of asked and of finished items
        self._is_complete = True

    def run(self, step: Step[Item], items: Sequence[Item]) -> dict[str, Outcome[Item]]:
        """Returns the finished items by id, in order."""
        step_key = [step.name, step.version, identity(step.backend)]
        keys = [digest(step_key, step.key(item)) for item in items]
        records = self.store.get(keys)
        done = self._find_done(step, records)
        self._counts[digest(step_key), False] += len(keys)
        self._counts[digest(step_key), True] += sum(key in done for key in keys)
        return {
            step.item_id(item): Outcome(item, step.decode(records[key].value), key, self.store.images)
            for item, key in zip(items, keys, strict=True)
            if key in done and not records[key].failed
        }

    def count_missing(self, step: Step[Any], most: float) -> float:
        """Returns how many items of a step are not finished; steps are asked about in their order.

        `most` holds as soon as an earlier step lacks items: what follows from them cannot be looked up.
        """
        step_key = digest([step.name, step.version, identity(step.backend)])
        asked, finished = self._counts[step_key, False], self._counts[step_key, True]
        missing = (asked if self._is_complete else max(most, asked)) - finished
        self._is_complete = self._is_complete and not missing
        return missing


def _list_steps(pipeline: Pipeline, devices: int) -> Iterator[tuple[Step[Any], float]]:
    """Yields each step with the items of a source, if every source gives all its counterfactuals."""
    dataset, variants = pipeline.dataset, pipeline.counterfactuals
    images = variants * pipeline.images_per_counterfactual + pipeline.placebos
    yield SourceStep(dataset, pipeline.size), 1
    yield CaptionStep(pipeline.captioner, dataset), 1
    yield KeywordsStep(pipeline.editor, dataset.vary), 1
    yield RewriteStep(pipeline.editor), variants
    for conditioning in pipeline.conditionings.values():
        yield ControlStep(conditioning, dataset), 1
    yield GenerateStep(pipeline.generator), images
    for gate in pipeline.gates:
        yield GateStep(gate, dataset), images
    for step in pipeline.quality_steps():
        yield step, images
    for model in pipeline.models:
        renders = variants if isinstance(dataset, Renders) else 0
        yield PredictStep(model, dataset, devices), 1 + images + renders


def _source_size(samples: Sequence[Sample]) -> Size:
    """Returns the size of the first sample that can be read."""
    for sample in samples:
        try:
            return sample.image.size
        except Exception:  # the source step reports it
            continue
    return 512, 512


def _existing(folder: Path) -> Path:
    absolute = folder.absolute()
    return next(part for part in (absolute, *absolute.parents) if part.exists())
