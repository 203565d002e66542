"""Anything that the library `datasets` opens: from the Hugging Face hub, saved by it, or a folder in one of its formats."""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from ..errors import ItemError, UserError
from ..types import Sample, Task
from . import subset
from .classes import Classed, Classes, read_classes, readable
from .folder import classes_of_masks

Source = tuple[str, str | None, str | None, str]  # path, config, revision, split


@dataclass
class HuggingFace(Classed):
    """The rows of a split; `image`, and `label` or `mask`, are names of columns.

    `path` is a hub id, a folder that `save_to_disk` wrote, or a folder of images with or without metadata. With a column `mask`
    (class ids in the first channel) the task is segmentation, else classification. Classes have the names that the label column knows
    or holds, or those of `classes_file` (see `read_classes`), which masks and bare numbers need. Rows with the same value in the
    column `group` belong together, such as the frames of a video.
    """

    path: str
    config: str | None = None
    revision: str | None = None
    split: str = "validation"
    image: str = "image"
    label: str = "label"
    mask: str | None = None
    group: str | None = None
    classes_file: str | None = None
    per_class: int | None = None
    limit: int | None = None
    seed: int = 0
    vary: dict[str, list[str]] = field(default_factory=dict)
    name: str = "huggingface"

    @property
    def task(self) -> Task:
        """Returns what the images are for."""
        return "classification" if self.mask is None else "segmentation"

    def samples(self) -> list[Sample]:
        """Returns a sample a row, called by its number; raises a UserError when there are none, or a column is missing."""
        rows = range(len(self._table))
        if not rows:
            raise UserError(f"{self.path} has no rows in its split {self.split}")
        labels = [None] * len(rows) if self.mask is not None else self._labels
        groups = [""] * len(rows) if self.group is None else list(map(str, self._table[self.group]))
        source: Source = (self.path, self.config, self.revision, self.split)
        return [
            Sample(
                f"{row:06}",
                partial(_read, source, self.image, row),
                None if self.mask is None else partial(_read, source, self.mask, row),
                label=labels[row],
                group=groups[row],
            )
            for row in subset(rows, self.limit, self.seed, self.per_class, labels)
        ]

    def published(self) -> dict[str, int]:
        """Returns the files on the hub that must be fetched before it can be opened, and their bytes; none where it is on this machine."""
        if Path(self.path).exists():
            return {}
        import huggingface_hub

        datasets = _library()
        builder = datasets.load_dataset_builder(self.path, self.config, revision=self.revision)
        if Path(builder.cache_dir).exists():
            return {}
        about = huggingface_hub.dataset_info(self.path, revision=self.revision, files_metadata=True, timeout=10)
        sizes = {file.rfilename: file.size or 0 for file in about.siblings or ()}
        names = [str(file).partition("@")[2].partition("/")[2] for some in builder.config.data_files.values() for file in some]
        return {name: sizes.get(name, 0) for name in names}

    @property
    def _table(self) -> Any:
        table = _open((self.path, self.config, self.revision, self.split))
        options = {"image": self.image} | ({"label": self.label} if self.mask is None else {"mask": self.mask})
        options |= {"group": self.group} if self.group is not None else {}
        for option, column in options.items():
            if column not in table.column_names:
                raise UserError(f"{self.path} has no column {column}: set dataset.{option} to one of {', '.join(table.column_names)}")
        return table

    @property
    def _texts(self) -> bool:
        return getattr(self._table.features[self.label], "dtype", "") in ("string", "large_string")

    @cached_property
    def _names(self) -> list[str] | None:
        """Returns what the values of the label column are called, by id where they are ids, or None for numbers without names."""
        if self._texts:
            return sorted(set(self._table[self.label]) - {None})
        names: list[str] | None = getattr(self._table.features[self.label], "names", None)
        return names

    @cached_property
    def _known(self) -> Classes:
        if self.mask is not None:
            return classes_of_masks(self.classes_file)
        if self.classes_file is not None:
            return read_classes(self.classes_file)
        if self._names is None:
            raise UserError(
                f"the column {self.label} of {self.path} holds no names: set dataset.label to one that does, or dataset.classes_file to their names"
            )
        return Classes(readable(self._names))

    @property
    def _labels(self) -> list[int | None]:
        values = list(self._table[self.label])
        if self._names is None:
            return values
        found = self._known.ids(self._names, self.path)
        if self._texts:
            return [found.get(value) for value in values]
        return [found[self._names[value]] if value is not None and value >= 0 else None for value in values]  # -1: a row without a label


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError("dataset=huggingface needs the package datasets: pip install 'dillema[huggingface]'") from error
    return datasets


@lru_cache(maxsize=4)
def _open(source: Source) -> Any:
    datasets = _library()
    path, config, revision, split = source
    try:
        if Path(path, "dataset_dict.json").exists():
            return datasets.load_from_disk(path)[split]
        if Path(path, "state.json").exists():
            return datasets.load_from_disk(path)
        return datasets.load_dataset(path, config, revision=revision, split=split)
    except Exception as error:  # a missing split, a damaged file and a hub out of reach have nothing in common
        raise UserError(
            f"the split {split} of {path} cannot be opened: {error}\nGive dataset.path (a folder, or the id of a data set on the Hugging Face hub), "
            "dataset.config and dataset.split. What needs no download: dataset=mini_shift or dataset=mini_imagenet"
        ) from error


@lru_cache(maxsize=8)
def _files(source: Source, column: str) -> Any:
    from datasets import Image

    return _open(source).select_columns(column).cast_column(column, Image(decode=False))


def _read(source: Source, column: str, row: int) -> bytes:
    cell = _files(source, column)[row][column]
    if cell is None:
        raise ItemError(f"row {row} has nothing in its column {column}")
    content: bytes | None = cell["bytes"]
    return Path(cell["path"]).read_bytes() if content is None else content
