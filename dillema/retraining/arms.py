"""The arms of a retraining: originals only, with augmentation, and with counterfactuals."""

import copy
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import product
from operator import call
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..backend import Dataset
from ..files import link, temporary_path
from ..keys import digest, identity
from ..model.classes import check_classes
from ..steps.base import dataset_key
from ..steps.items import read_size
from ..steps.predict import read_file
from ..task import get_task
from ..types import Sample
from . import ARMS, AUGMENTATION, COUNTERFACTUALS, ORIGINALS

if TYPE_CHECKING:
    from .training import Schedule, Source

log = logging.getLogger(__name__)

TRAINING_VERSION = 3  # raised whenever the same settings give other weights
CACHED_BYTES = 2**29  # of images and truths in memory, because a small network is faster than reading them


@dataclass(frozen=True)
class TrainingSource:
    """A source to train on: its original, and its valid counterfactuals, all of one size."""

    sample: Sample
    original: Path
    counterfactuals: tuple[Path, ...]


@dataclass
class ArmTrainer:
    """Trains models under test; stores their weights, so that a repeated run does not train again.

    Attributes:
        weights_folder: The folder of the weights of all runs.
        size_key: What the size of the images depends on (see `ImageSize.key`).
        sources: The training sources.
        schedule: The schedule of all arms.
        models: The number of models that are trained.
        statistics: The statistics of each training, by model, arm and seed.
        seconds: The time of all trainings of this run.
    """

    weights_folder: Path
    dataset: Dataset
    size_key: Any
    sources: Sequence[TrainingSource]
    schedule: "Schedule"
    seeds: Sequence[int]
    models: int
    statistics: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    _starts: list[float] = field(default_factory=list)

    def variants(self, model: Any, run_folder: Path) -> Iterator[tuple[str, Any]]:
        """Yields the untrained model, and the model after each arm and seed, each with its name.

        Trains missing variants. Links the weights to `weights/` in the run folder.
        """
        yield model.name, model
        for seed, arm in product(self.seeds, ARMS):
            stored = self._find_or_train(model, arm, seed)
            weights = run_folder / "weights" / model.name / f"{arm}-{seed}"
            shutil.rmtree(weights, ignore_errors=True)
            shutil.copytree(
                stored, weights, copy_function=lambda file, target: link(Path(file), Path(target))
            )
            figures = json.loads((stored / "training.json").read_text(encoding="utf-8"))
            self.statistics[model.name, arm, seed] = figures | {"weights": _weights_settings(model, weights)}
            yield variant_name(model.name, arm, seed), model.saved(stored)

    def augment_example(self, source: TrainingSource, seed: int) -> Image.Image:
        """Returns the original of a source after classical augmentation."""
        from .augmentation import augment

        task = get_task(self.dataset.task)
        truth = task.read_truth(source.sample, read_size(source.original))()
        return augment(read_file(source.original)(), truth, task, seed)[0]

    def _find_or_train(self, model: Any, arm: str, seed: int) -> Path:
        """Returns the folder with the weights of one arm and seed."""
        schedule = self._schedule_for(arm)
        key = digest(
            "training",
            self._version_for(arm),
            identity(model),
            arm,
            seed,
            asdict(schedule),
            self._content(arm),
        )
        stored = self.weights_folder / key
        count = self.models * len(self.seeds) * len(ARMS)
        title = f"{len(self.statistics) + 1} of {count}, {variant_name(model.name, arm, seed)}"
        if stored.exists():
            log.info("training %s: already done", title)
            return stored
        log.info("training %s", title)
        start = time.perf_counter()
        self._starts.append(start)
        steps = self._train(model, arm, seed, schedule, stored)
        now = time.perf_counter()
        self.seconds += now - start
        # the time between trainings includes the prediction of the test images
        minutes = (now - self._starts[0]) / len(self._starts) * (count - len(self.statistics) - 1) / 60
        log.info(
            "training %s: %d steps in %.1f s; about %.0f min left in all", title, steps, now - start, minutes
        )
        return stored

    def _train(self, model: Any, arm: str, seed: int, schedule: "Schedule", target: Path) -> int:
        """Trains a copy of a model and writes its weights to a folder atomically; returns the steps."""
        from .training import train

        trained_model = copy.deepcopy(model)
        trained_model.load()
        class_map = check_classes(trained_model, self.dataset)
        if class_map is not None:
            trained_model.class_map = class_map
        figures = train(trained_model, self._images, self.dataset, arm, schedule, seed)
        temporary = temporary_path(target)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        trained_model.save(temporary)
        content = {"model": model.name, "arm": arm, "seed": seed} | asdict(schedule) | asdict(figures)
        (temporary / "training.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
        for file in temporary.iterdir():
            file.chmod(0o444)  # run folders link to it, as to images
        try:
            temporary.rename(target)
        except OSError:  # another run has trained the same variant meanwhile
            shutil.rmtree(temporary)
        return figures.steps

    def _schedule_for(self, arm: str) -> "Schedule":
        """Returns the part of the schedule that an arm depends on: the originals arm has no share."""
        return replace(self.schedule, share=0.0) if arm == ORIGINALS else self.schedule

    def _version_for(self, arm: str) -> list[int]:
        from .augmentation import AUGMENTATION_VERSION

        return [TRAINING_VERSION, AUGMENTATION_VERSION] if arm == AUGMENTATION else [TRAINING_VERSION]

    def _content(self, arm: str) -> Any:
        """Returns a description of the training images of an arm, as JSON."""
        sources = [
            (
                source.sample.digest,
                [path.stem for path in source.counterfactuals] if arm == COUNTERFACTUALS else [],
            )
            for source in self.sources
        ]
        return [dataset_key(self.dataset), self.size_key, sources]

    @cached_property
    def _images(self) -> list["Source"]:
        """Returns the functions that read the training images, and cache them while memory allows."""
        from .training import Source

        sizes = [read_size(source.original) for source in self.sources]
        width, height = max(sizes, key=lambda size: size[0] * size[1])
        cached: Callable[..., Any] = lru_cache(maxsize=CACHED_BYTES // (4 * width * height))(call)
        task = get_task(self.dataset.task)
        return [
            Source(
                partial(cached, read_file(source.original)),
                partial(cached, task.read_truth(source.sample, size)),
                [partial(cached, read_file(path)) for path in source.counterfactuals],
            )
            for source, size in zip(self.sources, sizes, strict=True)
        ]


def variant_name(model: str, arm: str, seed: int) -> str:
    """Returns the name, in predictions.parquet, of a model after an arm with a seed."""
    return f"{model}, {arm}, seed {seed}"


def _weights_settings(model: Any, weights: Path) -> str:
    """Returns the settings by which the class of a model loads weights."""
    before: Mapping[str, Any] = vars(model)
    after: Mapping[str, Any] = vars(model.saved(weights))
    return " ".join(
        f"model.{model.name}.{name}={value}" for name, value in after.items() if value != before[name]
    )
