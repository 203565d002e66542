"""The generated set of a run: a Hugging Face imagefolder that is written as the pairs come, and read from where they are asked for again."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
from PIL import Image

from .store import Store, link
from .types import Caption, Counterfactual, Dataset, Edit, Sample, Verdict

KEY = "_record"  # ends the names of what holds keys of the store


@dataclass(frozen=True)
class Pair:
    """A source and one counterfactual image of it; `controls` holds, by conditioning, its control images."""

    id: str
    sample: Sample
    caption: Caption
    counterfactual: Counterfactual
    seed: int
    controls: dict[str, Path]
    image: Path
    verdict: Verdict
    quality: dict[str, float] = field(default_factory=dict)

    def painted(self) -> Image.Image:
        """Returns the counterfactual image."""
        return opened(self.image)


class Pairs:
    """The pairs of a run, in a folder and not in memory: `images/`, `masks/`, and `metadata.jsonl` with a line for each.

    Iterating reads them again, in their order; `samples` are those of the data set, by id.
    """

    def __init__(self, folder: Path, samples: Mapping[str, Sample], store: Store) -> None:
        self._folder, self._samples, self._store = folder, samples, store

    def __len__(self) -> int:
        with (self._folder / "metadata.jsonl").open() as lines:
            return sum(1 for _ in lines)

    def __iter__(self) -> Iterator[Pair]:
        with (self._folder / "metadata.jsonl").open() as lines:
            for row in map(json.loads, lines):
                records = {name.removesuffix(KEY): self._store.image(key) for name, key in row.items() if name.endswith(KEY)}
                yield Pair(
                    id=Path(row["file_name"]).stem,
                    sample=self._samples[row["source"]],
                    caption=Caption(row["caption"]),
                    counterfactual=Counterfactual(row["counterfactual"], tuple(Edit(**edit) for edit in row["edits"])),
                    seed=row["seed"],
                    image=records.pop("image"),
                    controls=records,
                    verdict=Verdict(row["scores"], row["valid"]),
                    quality=row["quality"],
                )

    def add(self, pairs: Iterable[Pair], dataset: Dataset, size: Literal["generated", "source"] | tuple[int, int], save_controls: bool) -> None:
        """Writes pairs, with images and masks of a size."""
        (self._folder / "images").mkdir(parents=True, exist_ok=True)
        with (self._folder / "metadata.jsonl").open("a") as lines:
            for pair in pairs:
                lines.write(json.dumps(self._written(pair, dataset, size, save_controls)) + "\n")

    def _written(self, pair: Pair, dataset: Dataset, wanted: Literal["generated", "source"] | tuple[int, int], save_controls: bool) -> dict[str, object]:
        """Returns the line of a pair; its files are written."""
        row: dict[str, object] = {"file_name": f"images/{pair.id}.png"}
        with Image.open(pair.image) as image:
            size = image.size if wanted == "generated" else pair.sample.image.size if wanted == "source" else wanted
            if size == image.size:
                link(pair.image, self._folder / f"images/{pair.id}.png")
            else:
                image.resize(size, Image.Resampling.LANCZOS).save(self._folder / f"images/{pair.id}.png")
        if dataset.task == "segmentation":
            row["mask_file_name"] = f"masks/{pair.id}.png"
            (self._folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(scaled(pair.sample, size)).save(self._folder / f"masks/{pair.id}.png")
        else:
            row |= {"label": pair.sample.label, "label_name": dataset.classes[cast(int, pair.sample.label)]}
        for name, path in pair.controls.items() if save_controls else ():
            row[f"{name}_file_name"] = f"controls/{pair.id}_{name}.png"
            (self._folder / "controls").mkdir(exist_ok=True)
            link(path, self._folder / f"controls/{pair.id}_{name}.png")
        row |= {"source": pair.sample.id, "caption": pair.caption.text, "counterfactual": pair.counterfactual.text}
        row |= {"edits": [asdict(e) for e in pair.counterfactual.edits], "seed": pair.seed}
        row |= {"scores": pair.verdict.scores, "valid": pair.verdict.valid, "quality": pair.quality}
        return row | {f"{name}{KEY}": path.stem for name, path in {"image": pair.image, **pair.controls}.items()}


def opened(path: Path) -> Image.Image:
    """Returns the RGB image in a file."""
    return Image.open(path).convert("RGB")


def scaled(sample: Sample, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask of a sample (height, width) in a size (width, height)."""
    return np.asarray(Image.fromarray(cast(np.ndarray, sample.mask)).resize(size, Image.Resampling.NEAREST))
