"""ImageNet-1k (Russakovsky et al., IJCV 2015) in the layouts that people have it in."""

import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from ..errors import UserError
from ..types import Sample, Task
from . import subset
from .files import IMAGES, ids, listed, reader

KAGGLE = "ILSVRC/Data/CLS-LOC"
KAGGLE_LABELS = "LOC_val_solution.csv"
_LINE = re.compile(r"(\S+?)[,\s]+(n\d{8}|\d+)\b")

Photograph = tuple[str, int]  # path below the folder, class id


def classes() -> dict[str, str]:
    """Returns the 1000 WordNet ids with their names, both in the order of torchvision's models."""
    return dict(line.split(" ", 1) for line in files(__package__).joinpath("imagenet_classes.txt").read_text().splitlines())


@dataclass
class ImageNet:
    """Photographs of some or all of the 1000 classes, below `<root>/<split>/`, below Kaggle's `ILSVRC/Data/CLS-LOC/<split>/`, or below `root` itself.

    They lie in folders called by WordNet ids, or together with a file of `labels`: lines of a file name and a WordNet id or a
    class id (0 to 999, in the order of the WordNet ids). Kaggle's own file is found beside its ILSVRC/. torchvision's meta.bin is not
    needed. `per_class` draws that many of each class, then `limit` that many of all.
    """

    root: str
    split: str = "val"
    labels: str | None = None
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
        """Returns the photographs by folder and name; raises a UserError when there are none, or no labels to them."""
        index = {wnid: i for i, wnid in enumerate(classes())}
        folder = self._folder(index)
        names = [name for name in listed(folder) if name.lower().endswith(IMAGES)]
        solution = Path(self.root, KAGGLE_LABELS)
        if self.labels is not None:
            photographs = self._labelled(Path(self.labels), index)
        elif names and not any("/" in name for name in names):
            if not solution.is_file():
                raise UserError(f"{folder} holds photographs, but no folders of classes: set dataset.labels to a file with lines <file name> <class>")
            photographs = self._labelled(solution, index)
        else:
            if unknown := sorted({name.partition("/")[0] for name in names} - index.keys()):
                raise UserError(f"{folder} holds what is no classes of ImageNet-1k: {', '.join(unknown[:5])}. Folders should be called like n01440764")
            photographs = [(name, index[name.partition("/")[0]]) for name in names]
        if not photographs:
            raise UserError(f"no photographs in {folder}: they should lie in one folder a class, like {folder / 'n01440764' / 'any_name.JPEG'}")
        named = list(zip(ids([name for name, _ in photographs]), photographs, strict=True))
        kept = subset(named, self.limit, self.seed, self.per_class, [label for _, label in photographs])
        return [Sample(sample_id, reader(folder, name), label=label) for sample_id, (name, label) in kept]

    def _folder(self, index: dict[str, int]) -> Path:
        root = Path(self.root)
        for folder in (root / self.split, root / KAGGLE / self.split):
            if folder.is_dir():
                return folder
        if root.is_dir() and (self.labels is not None or any(f.name in index for f in root.iterdir())):
            return root
        raise UserError(
            f"no ImageNet data in {Path(self.root, self.split).absolute()}: set dataset.root to the folder that holds {self.split}/<wnid>/*.JPEG "
            f"or {KAGGLE}/{self.split}/. The small world needs no download: dataset=mini_imagenet"
        )

    def _labelled(self, path: Path, index: dict[str, int]) -> list[Photograph]:
        """Returns the photographs that a file lists; its first line may be a header, as in Kaggle's."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"dataset.labels={path} cannot be read: {error}") from error
        found = []
        for number, line in enumerate(lines, 1):
            match = _LINE.match(line)
            label = None if match is None else index.get(match[2], int(match[2]) if match[2].isdecimal() else len(index))
            if match and label is not None and label < len(index):
                name = match[1].removeprefix(f"{self.split}/")
                found.append((name if name.lower().endswith(IMAGES) else f"{name}.JPEG", label))
            elif line.strip() and (match or number > 1):
                raise UserError(
                    f"{path}, line {number}: {line[:80]!r} should be <file name> <class>, a class being a WordNet id like n01440764 or a number from 0 to 999 "
                    "in the order of the WordNet ids (the numbers 1 to 1000 of the development kit follow another order)"
                )
        return found
