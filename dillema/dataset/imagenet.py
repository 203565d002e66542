"""ImageNet-1k (Russakovsky et al., IJCV 2015) in folders named by WordNet ids."""

import hashlib
import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from ..errors import UserError
from ..types import Sample, Task
from . import subset

SUFFIXES = (".jpeg", ".jpg", ".png")


def classes() -> dict[str, str]:
    """Returns the 1000 WordNet ids with their names, both in the order of torchvision's models."""
    return dict(line.split(" ", 1) for line in files(__package__).joinpath("imagenet_classes.txt").read_text().splitlines())


@dataclass
class ImageNet:
    """Photographs read from `<root>/<split>/<wnid>/*.JPEG`; a tree of some of the 1000 classes will do.

    `per_class` draws that many of each class, then `limit` that many of all.
    """

    root: str
    split: str = "val"
    per_class: int | None = None
    limit: int | None = None
    seed: int = 0
    vary: dict[str, list[str]] = field(default_factory=dict)

    name: str = field(default="imagenet", init=False)
    task: Task = field(default="classification", init=False)
    classes: tuple[str, ...] = field(default_factory=lambda: tuple(classes().values()), init=False)
    colours: tuple[tuple[int, int, int], ...] = field(default=(), init=False)
    ignored: frozenset[int] = field(default=frozenset(), init=False)

    def samples(self) -> list[Sample]:
        """Returns the photographs by class and name; raises a UserError when there are none."""
        folder = Path(self.root, self.split)
        if not folder.is_dir():
            raise UserError(
                f"no ImageNet data in {folder.absolute()}: set dataset.root to the folder that holds {self.split}/<wnid>/*.JPEG. "
                "The small world needs no download: dataset=mini_imagenet"
            )
        index = {wnid: i for i, wnid in enumerate(classes())}
        names = sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
        if unknown := [n for n in names if n not in index]:
            raise UserError(f"{folder} holds folders that are no classes of ImageNet-1k: {', '.join(unknown[:5])}. They should be called like n01440764")
        chosen: list[tuple[str, str]] = []
        for wnid in names:
            photographs = sorted(f.name for f in (folder / wnid).iterdir() if f.suffix.lower() in SUFFIXES)
            chosen += [(wnid, name) for name in subset(photographs, self.per_class, self.seed)]
        if not chosen:
            raise UserError(f"no photographs in {folder}: they should lie in one folder a class, like {folder / 'n01440764' / 'any_name.JPEG'}")
        return [Sample(_id(w, n), (folder / w / n).read_bytes, label=index[w]) for w, n in subset(chosen, self.limit, self.seed)]


def _id(wnid: str, name: str) -> str:
    """Returns `<wnid>_<name>`, less the usual suffix, with a hash where that would not be a safe or unique file name."""
    whole = f"{wnid}_{name.removesuffix('.JPEG')}"
    clean = re.sub(r"[^\w-]", "-", whole)
    return clean if clean == whole else f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
