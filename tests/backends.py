"""Small back-ends whose answers depend on all that a real one's depend on, and a pipeline made of them (also as a program)."""

import io
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from dillema.errors import ItemError
from dillema.execution.local import Local
from dillema.pipeline import Pipeline
from dillema.store import Store, digest
from dillema.types import Caption, Control, Counterfactual, Edit, Sample

SIZE = (32, 20)


def picture(seed: int, classes: int = 256) -> bytes:
    """Returns the file of a noise image, or of a noise mask of so many classes."""
    shape = (SIZE[1], SIZE[0]) if classes < 256 else (SIZE[1], SIZE[0], 3)
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, classes, shape, np.uint8)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Noise:
    count: int = 6
    task: str = "segmentation"
    damaged: int = -1
    backwards: bool = False

    name: str = "noise"
    classes: tuple[str, ...] = ("sky", "road", "car")
    colours: tuple[tuple[int, int, int], ...] = ((0, 0, 255), (99, 99, 99), (255, 0, 0))
    ignored: frozenset[int] = frozenset()
    vary: dict[str, list[str]] = field(default_factory=lambda: {"weather": ["clear", "rainy", "foggy"], "time of day": ["day", "night"]})

    def samples(self) -> list[Sample]:
        found = [
            Sample(
                f"scene-{i}",
                lambda i=i: b"nothing" if i == self.damaged else picture(i),
                (lambda i=i: picture(100 + i, 3)) if self.task == "segmentation" else None,
                None if self.task == "segmentation" else i % 3,
                {"weather": "clear"},
            )
            for i in range(self.count)
        ]
        return found[::-1] if self.backwards else found


@dataclass
class Backend:
    """Writes a line for each item it is given to the file `diary`, and sleeps; raises what `fails` says for items that hold its text."""

    diary: str = ""
    pause: float = 0
    fails: str = ""
    batch_size: int = 4

    transient: ClassVar[tuple[str, ...]] = ("diary", "pause", "fails", "batch_size")
    weights: ClassVar[tuple[str, ...]] = ()
    loads: ClassVar[list[str]] = []

    def load(self) -> None:
        self.loads.append(type(self).__name__)

    def work(self, *items: str) -> None:
        for item in items:
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
        return [Caption(f"{self.sentence} {digest(s.digest, seed)[:6]}") for s, seed in zip(samples, seeds, strict=True)]


@dataclass
class Editor(Backend):
    batch_size: int = 1

    def keywords(self, caption: Caption, vary: Any, label_name: str, seed: int) -> dict[str, str]:
        self.work(caption.text)
        return {"weather": "clear", "time of day": "day"}

    def alternatives(self, caption: Caption, spans: Any, narrowed: Any, seed: int) -> tuple[Edit, ...]:
        self.work(caption.text)
        return tuple(Edit(name, spans[name], values[seed % len(values)]) for name, values in narrowed.items())

    def rewrite(self, caption: Caption, edits: tuple[Edit, ...]) -> Counterfactual:
        text = caption.text
        for edit in edits:
            text = text.replace(edit.original, edit.replacement)
        return Counterfactual(text, edits)


@dataclass
class Edits:
    def plan(self, sources: Any, vary: Any, count: int, seed: int) -> dict[str, list[dict[str, tuple[str, ...]]]]:
        return {source: [{"weather": ("rainy", "foggy")}, {"weather": ("foggy",), "time of day": ("night",)}] for source in sources}


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
        self.work(*(c.text for c in counterfactuals))
        made: list[Any] = []
        for sample, counterfactual, given, seed in zip(samples, counterfactuals, controls, seeds, strict=True):
            structure = [(name, control.image.tobytes().hex(), control.weight) for name, control in given.items()]
            random = np.random.default_rng(int(digest(sample.digest, counterfactual.text, seed, self.strength, structure)[:8], 16))
            made.append(Image.fromarray(random.integers(0, 256, (self.height, self.width, 3), np.uint8)))
        return made


@dataclass
class Gate(Backend):
    least: float = 0.0

    transient: ClassVar[tuple[str, ...]] = (*Backend.transient, "least")

    def score(self, samples: Any, images: Any, dataset: Any) -> list[dict[str, float]]:
        self.work(*(s.id for s in samples))
        return [{"brightness": float(np.asarray(image).mean() / 255)} for image in images]

    def verdict(self, scores: Any) -> bool:
        return scores["brightness"] >= self.least


@dataclass
class Model(Backend):
    name: str = "brightest"
    task: str = "segmentation"
    gain: float = 1.0

    def predict(self, images: Any) -> Any:
        import torch

        self.work(*("image" for _ in images))
        pixels = torch.stack([torch.from_numpy(np.asarray(image).copy()) for image in images]).permute(0, 3, 1, 2).float() / 64
        return self.gain * (pixels if self.task == "segmentation" else pixels.mean((2, 3)))


def pipeline(store: Path, *, models: tuple[Any, ...] = (), **parts: Any) -> Pipeline:
    """Returns a pipeline over six sources with two counterfactuals each."""
    whole = Pipeline(Noise(), Captioner(), Editor(), Edits(), Conditioning(), Generator(), Gate(), models, Local(), Store(store))
    return replace(whole, **parts)


def main() -> None:
    """Runs the pipeline as a program."""
    base = Path(sys.argv[1])
    slow = {"diary": str(base / "diary"), "pause": float(sys.argv[3])}
    run_folder = base / sys.argv[2]
    run_folder.mkdir()
    parts = {"captioner": Captioner(**slow), "editor": Editor(**slow), "conditioning": Conditioning(**slow), "generator": Generator(**slow)}
    pipeline(base / "store", **parts, validity=Gate(**slow)).run(run_folder)
