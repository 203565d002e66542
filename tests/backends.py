"""Small back-ends, whose results depend on the same inputs as those of real ones, and a pipeline of them.

The edit strategies are the real ones.
"""

import io
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from dillema.backend import Vary
from dillema.context import JobContext
from dillema.counterfactual.edits import Random
from dillema.errors import ItemError
from dillema.execution.local import Local
from dillema.fields import BatchSize, Transient
from dillema.job.run import generate
from dillema.keys import digest
from dillema.pipeline import Pipeline
from dillema.run_folder import RunFolder
from dillema.runner import Runner
from dillema.store import Store
from dillema.types import Caption, Control, Counterfactual, Edit, Expression, Sample, Variant

SIZE = (32, 20)
WEATHERS = ["clear", "rainy", "foggy", "snowy"]
TIMES = ["day", "night", "dusk"]


def noise_image(seed: int, classes: int = 256) -> bytes:
    """Returns the file of a noise image, or of a noise mask with this number of classes."""
    shape = (SIZE[1], SIZE[0]) if classes < 256 else (SIZE[1], SIZE[0], 3)
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, classes, shape, np.uint8)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Noise:
    """Samples scene-0, scene-1, ...; the ids in `damaged` cannot be read."""

    count: int = 6
    task: str = "segmentation"
    damaged: int = -1
    backwards: bool = False
    group_size: int = 0

    name: str = "noise"
    classes: tuple[str, ...] = ("sky", "road", "car")
    colours: tuple[tuple[int, int, int], ...] = ((0, 0, 255), (99, 99, 99), (255, 0, 0))
    ignored: frozenset[int] = frozenset()
    vary: dict[str, list[str]] = field(default_factory=lambda: {"weather": WEATHERS, "time of day": TIMES})

    def samples(self) -> list[Sample]:
        samples = [
            Sample(
                f"scene-{i}",
                lambda i=i: b"nothing" if i == self.damaged else noise_image(i),
                (lambda i=i: noise_image(100 + i, 3)) if self.task == "segmentation" else None,
                None if self.task == "segmentation" else i % 3,
                {"weather": "clear"},
                f"video-{i // self.group_size}" if self.group_size else "",
            )
            for i in range(self.count)
        ]
        return samples[::-1] if self.backwards else samples


@dataclass
class Backend:
    """Writes a line for each item to the file `diary`, and sleeps for each item.

    Raises an ItemError for items that contain the text `fails`.
    """

    diary: Transient[str] = ""
    pause: Transient[float] = 0
    fails: Transient[str] = ""
    batch_size: BatchSize = 4

    version: ClassVar[int] = 1
    loads: ClassVar[list[str]] = []

    def load(self) -> None:
        self.loads.append(type(self).__name__)

    def work(self, *items: str) -> None:
        for item in items:
            if self.pause:
                time.sleep(self.pause)
            if self.diary:
                with Path(self.diary).open("a") as file:
                    file.write(f"{type(self).__name__} {item}\n")
            if self.fails and self.fails in item:
                raise ItemError(f"no {self.fails} here", raw="<b>what?</b>")


@dataclass
class Captioner(Backend):
    sentence: str = "a clear day on a street, number"

    def caption(self, samples: Any, dataset: Any, seeds: Any) -> list[Caption]:
        self.work(*(s.id for s in samples))
        return [
            Caption(f"{self.sentence} {digest(s.digest, seed)[:6]}")
            for s, seed in zip(samples, seeds, strict=True)
        ]


@dataclass
class Editor(Backend):
    batch_size: BatchSize = 1

    def keywords(self, caption: Caption, vary: Vary, label: str, seed: int) -> dict[str, Expression]:
        self.work(caption.text)
        return {"weather": Expression("clear", "clear"), "time of day": Expression("day", "day")}

    def rewrite(
        self, caption: Caption, expressions: Mapping[str, Expression], variant: Variant, label: str, seed: int
    ) -> Counterfactual:
        self.work(caption.text)
        edits = tuple(
            Edit(name, expressions[name].span, values[seed % len(values)])
            for name, values in variant.changes.items()
        )
        text = caption.text
        for edit in edits:
            text = text.replace(edit.original, edit.replacement)
        return Counterfactual(text, edits)


@dataclass
class Conditioning(Backend):
    weight: float = 0.5
    name: ClassVar[str] = "grey"

    def control(self, sample: Sample, dataset: Any, size: tuple[int, int]) -> Control:
        self.work(sample.id)
        return Control(sample.image.resize(size).convert("L").convert("RGB"), self.weight)


@dataclass
class Generator(Backend):
    width: int = SIZE[0]
    height: int = SIZE[1]
    strength: int = 1

    def generate(self, samples: Any, counterfactuals: Any, controls: Any, seeds: Any) -> list[Any]:
        self.work(*(f"{s.id}: {c.text}" for s, c in zip(samples, counterfactuals, strict=True)))
        return [self._paint(*item) for item in zip(samples, counterfactuals, controls, seeds, strict=True)]

    def _paint(self, sample: Sample, counterfactual: Counterfactual, controls: Any, seed: int) -> Image.Image:
        structure = [
            (name, control.image.tobytes().hex(), control.weight) for name, control in controls.items()
        ]
        made_from = digest(sample.digest, counterfactual.text, seed, self.strength, structure)
        random = np.random.default_rng(int(made_from[:8], 16))
        return Image.fromarray(random.integers(0, 256, (self.height, self.width, 3), np.uint8))


@dataclass
class Gate(Backend):
    name: str = "brightness"
    least: Transient[float] = 0.0

    scores: ClassVar[tuple[str, ...]] = ("mean",)

    def score(self, samples: Any, counterfactuals: Any, images: Any, dataset: Any) -> list[dict[str, float]]:
        self.work(*(s.id for s in samples))
        return [{"mean": float(np.asarray(image).mean() / 255)} for image in images]

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        return [] if scores["mean"] >= self.least else [f"mean {scores['mean']:.2f} is below {self.least}"]


@dataclass
class Model(Backend):
    name: Transient[str] = "brightest"
    task: str = "segmentation"
    gain: float = 1.0

    def predict(self, images: Any) -> Any:
        import torch

        self.work(*("image" for _ in images))
        pixels = torch.stack([torch.from_numpy(np.asarray(image).copy()) for image in images])
        pixels = pixels.permute(0, 3, 1, 2).float() / 64
        return self.gain * (pixels if self.task == "segmentation" else pixels.mean((2, 3)))


def make_pipeline(**parts: Any) -> Pipeline:
    """Returns a pipeline over six sources with two counterfactuals each."""
    dataset = parts.pop("dataset", Noise())
    pipeline = Pipeline(
        dataset,
        Captioner(),
        Editor(),
        Random(),
        {"grey": Conditioning()},
        Generator(),
        [Gate()],
        counterfactuals=2,
    )
    return replace(pipeline, **parts)


def run_pipeline(
    folder: Path, store: Path, *, max_failures: int = 50, retry_failed: bool = False, size: Any = "generated",
    save_controls: bool = False, models: Sequence[Any] = (), executor: Any = None, reference: Any = None,
    validity: Any = None, **parts: Any,
) -> tuple[RunFolder, Runner]:  # fmt: skip
    """Runs a pipeline of small back-ends; returns its folder, and the runner with its failures."""
    cfg = OmegaConf.create({"size": size, "save_controls": save_controls, "name": "test"})
    cfg.reference, cfg.validity = reference, validity
    runner = Runner(Store(store), executor or Local(), max_failures, retry_failed)
    context = JobContext(cfg, folder)
    return generate(context, make_pipeline(models=models, **parts), runner, time.perf_counter()), runner


def main() -> None:
    """Runs the pipeline as a program. Its arguments are the folder, the run's name and seconds an item."""
    base = Path(sys.argv[1])
    slow = {"diary": str(base / "diary"), "pause": float(sys.argv[3])}
    parts = {"captioner": Captioner(**slow), "editor": Editor(**slow), "generator": Generator(**slow)}
    parts |= {"conditionings": {"grey": Conditioning(**slow)}, "gates": [Gate(**slow)]}
    run_pipeline(base / sys.argv[2], base / "store", **parts)
