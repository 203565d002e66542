"""ImageNet-1k (Russakovsky et al., IJCV 2015) in its common layouts."""

import itertools
import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

from ..decoding import find_file_encoding, read_text
from ..errors import UserError
from ..fields import NotNegative, Positive
from ..types import Sample
from .files import IMAGES, list_files, make_ids, read_later
from .selection import subset

KAGGLE = "ILSVRC/Data/CLS-LOC"
KAGGLE_LABELS = "LOC_val_solution.csv"
_LINE = re.compile(r"(\S+?)[,\s]+(n\d{8}|\d+)(?=[,\s]|$)")

_HEADER = re.compile(r"[A-Za-z_]+[,\s]+[A-Za-z_]+\s*$")

Photograph = tuple[str, int]  # path below the folder, class id


@lru_cache
def classes() -> dict[str, str]:
    """Returns the 1000 WordNet ids with their names, both in the order of torchvision's models."""
    lines = files(__package__).joinpath("imagenet_classes.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


@dataclass
class ImageNet:
    """Photographs of some or all of the 1000 classes.

    They lie below `<root>/<split>/`, below Kaggle's `ILSVRC/Data/CLS-LOC/<split>/`, or below `root` itself,
    in folders named by WordNet ids, or together with a file of `labels`: lines of a file name and a WordNet
    id or a class id (0 to 999, in the order of the WordNet ids). The file of Kaggle is found beside ILSVRC/.
    torchvision's meta.bin is not needed. First `per_class` limits the photographs of each class, then `limit`
    those of all.
    """

    root: str
    split: str = "val"
    labels: str | None = None
    per_class: Positive | None = None
    limit: Positive | None = None
    seed: NotNegative = 0
    vary: dict[str, list[str]] = field(default_factory=dict)

    name: str = field(default="imagenet", init=False)
    task: str = field(default="classification", init=False)
    classes: tuple[str, ...] = field(default_factory=lambda: tuple(classes().values()), init=False)
    colours: tuple[tuple[int, int, int], ...] = field(default=(), init=False)
    ignored: frozenset[int] = field(default=frozenset(), init=False)

    @property
    def available(self) -> int:
        """Returns the number of samples before limits."""
        return len(self._photographs)

    def samples(self) -> list[Sample]:
        """Returns the photographs by folder and name; raises a UserError for none, or for missing labels."""
        photographs = self._photographs
        pairs = list(zip(make_ids([name for name, _ in photographs]), photographs, strict=True))
        selected = subset(pairs, self.limit, self.seed, self.per_class, [label for _, label in photographs])
        return [
            Sample(sample_id, read_later(self._folder, name), label=label)
            for sample_id, (name, label) in selected
        ]

    @cached_property
    def _photographs(self) -> list[Photograph]:
        folder, index = self._folder, _index_classes()
        names = [name for name in list_files(folder) if name.lower().endswith(IMAGES)]
        if self.labels is not None:
            photographs = self._read_labels(Path(self.labels).expanduser())
        elif names and not any("/" in name for name in names):
            solution = Path(self.root).expanduser() / KAGGLE_LABELS
            if not solution.is_file():
                raise UserError(
                    f"{folder} holds photographs, but no folders of classes: set dataset.labels to a file "
                    "with lines "
                    "<file name> <class>"
                )
            photographs = self._read_labels(solution)
        else:
            if unknown := sorted({name.partition("/")[0] for name in names} - index.keys()):
                raise UserError(
                    f"{folder} holds what is no classes of ImageNet-1k: {', '.join(unknown[:5])}. Folders "
                    "should be "
                    "called like n01440764"
                )
            photographs = [(name, index[name.partition("/")[0]]) for name in names]
        if not photographs:
            example = folder / "n01440764" / "any_name.JPEG"
            raise UserError(
                f"no photographs in {folder}: they should lie in one folder a class, like {example}"
            )
        return photographs

    @cached_property
    def _folder(self) -> Path:
        root = Path(self.root).expanduser()
        for folder in (root / self.split, root / KAGGLE / self.split):
            if folder.is_dir():
                return folder
        if root.is_dir() and (
            self.labels is not None or any(f.name in _index_classes() for f in root.iterdir())
        ):
            return root
        raise UserError(
            f"no ImageNet data in {(root / self.split).absolute()}: set dataset.root to the folder that "
            "holds "
            f"{self.split}/<wnid>/*.JPEG or {KAGGLE}/{self.split}/. The small world needs no download: "
            "dataset=mini_imagenet"
        )

    def _read_labels(self, path: Path) -> list[Photograph]:
        """Returns the photographs that a file lists; its first line may be a header, as in Kaggle's."""
        index, photographs = _index_classes(), []
        for number, line in enumerate(read_text(path, "dataset.labels").splitlines(), 1):
            match = _LINE.match(line)
            label = None if match is None else _find_label(match[2], index)
            if match and label is not None:
                name = match[1].removeprefix(f"{self.split}/")
                photographs.append((name if name.lower().endswith(IMAGES) else f"{name}.JPEG", label))
            elif line.strip() and (match or number > 1 or not _HEADER.match(line)):
                raise UserError(
                    f"{path}, line {number}: {line[:80]!r} should be <file name> <class>, a class being a "
                    "WordNet id like "
                    "n01440764 or a number from 0 to 999 in the order of the WordNet ids (the numbers 1 to "
                    "1000 of the "
                    "development kit follow another order)"
                )
        return photographs


def is_class_folder(name: str) -> bool:
    """Returns whether a folder is named like a class: by a WordNet id of ImageNet-1k."""
    return name in classes()


def is_list_of_labels(path: Path) -> bool:
    """Returns whether a text file lists file names with classes, as `labels` takes it."""
    with path.open(encoding=find_file_encoding(path), errors="replace") as file:
        lines = [line for line in itertools.islice(file, 20) if line.strip()][1:]
    matches = [_LINE.match(line) for line in lines]
    return bool(lines) and all(
        match and _find_label(match[2], _index_classes()) is not None for match in matches
    )


def _index_classes() -> dict[str, int]:
    return {wnid: i for i, wnid in enumerate(classes())}


def _find_label(word: str, index: dict[str, int]) -> int | None:
    """Returns the class id of a WordNet id or a number, None if there is no such class."""
    label = index.get(word, int(word) if word.isdecimal() else len(index))
    return label if label < len(index) else None
