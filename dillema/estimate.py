"""Estimates the images, the time, the disk space and the cost of a run before it begins."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .downloads import gigabytes
from .image_size import Size
from .pipeline import Pipeline
from .runner import Runner
from .speeds import read_speed
from .steps.base import Step
from .steps.caption import CaptionStep
from .steps.control import ControlStep
from .steps.gate import GateStep
from .steps.generate import GenerateStep
from .steps.keywords import KeywordsStep
from .steps.predict import PredictStep
from .steps.rewrite import RewriteStep
from .types import Sample

log = logging.getLogger(__name__)

PNG_SHARE = 0.6  # of the bytes of its pixels that an image takes on the disk, roughly


@dataclass(frozen=True)
class Estimate:
    """What a run takes at most: what the store already holds is not done again.

    Attributes:
        images: How many images it generates, placebos included.
        seconds: The time; None if it is not known of any step.
        unknown: The steps whose time is not known, because their back-ends have not run with this store.
        disk: Bytes of images.
        free: Bytes that are free on the disk of the store.
        price: What an hour of the machine costs, if that is known.
    """

    images: int
    seconds: float | None
    unknown: tuple[str, ...]
    disk: float
    free: float
    price: float | None = None

    @property
    def text(self) -> str:
        """Returns the estimate in one line."""
        parts = [f"{self.images} images", f"{gigabytes(self.disk)} of disk ({gigabytes(self.free)} are free)"]
        if self.seconds is not None:
            parts.append(f"{format_duration(self.seconds)}{' and more' if self.unknown else ''}")
            if self.price is not None:
                parts.append(f"a cost of {self.seconds / 3600 * self.price:.2f}")
        text = f"This run takes at most about {', '.join(parts)}; finished work in the store is not repeated"
        if self.unknown:
            text += f". Not known yet is the time of {', '.join(self.unknown)}: no run has measured it here"
        return text


def estimate(
    pipeline: Pipeline, runner: Runner, samples: Sequence[Sample], price: float | None = None
) -> Estimate:
    """Returns the estimate for samples; times are those that the same back-ends took in earlier runs."""
    seconds, unknown = 0.0, []
    for step, count in _count_items(pipeline, len(samples), runner.executor.devices):
        speed = read_speed(runner.store.folder, step)
        if speed is None:
            unknown.append(step.name)
        else:
            seconds += speed * count
    images = _count_images(pipeline, len(samples))
    width, height = pipeline.size.of(_source_size(samples))
    files = images + len(samples) * (1 + len(pipeline.conditionings))
    return Estimate(
        images=images,
        seconds=seconds or None,
        unknown=tuple(unknown),
        disk=files * width * height * 3 * PNG_SHARE,
        free=shutil.disk_usage(_existing(runner.store.folder)).free,
        price=price,
    )


def show(found: Estimate) -> None:
    """Logs an estimate; warns if the disk is too small for it."""
    log.info("%s", found.text)
    if found.disk > found.free:
        log.warning("The images may not fit on the disk of the store: make room, or set store=...")


def format_duration(seconds: float) -> str:
    """Returns a duration in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"


def _count_images(pipeline: Pipeline, sources: int) -> int:
    each = pipeline.counterfactuals * pipeline.images_per_counterfactual
    return sources * (each + pipeline.placebos)


def _count_items(pipeline: Pipeline, sources: int, devices: int) -> Iterator[tuple[Step[Any], int]]:
    """Yields each step with the number of its items, if every source gives all its counterfactuals."""
    dataset, images = pipeline.dataset, _count_images(pipeline, sources)
    yield CaptionStep(pipeline.captioner, dataset), sources
    yield KeywordsStep(pipeline.editor, dataset.vary), sources
    yield RewriteStep(pipeline.editor), sources * pipeline.counterfactuals
    for conditioning in pipeline.conditionings.values():
        yield ControlStep(conditioning, dataset), sources
    yield GenerateStep(pipeline.generator), images
    for gate in pipeline.gates:
        yield GateStep(gate, dataset), images
    for model in pipeline.models:
        yield PredictStep(model, dataset, devices), sources + images


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
