"""What the library `datasets` opens: from the hub, saved by it, or a folder in one of its formats."""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from ..errors import ItemError, UserError
from ..fields import NotNegative, Positive
from ..types import Sample
from .classes import Classes, HasClasses, make_readable, read_classes, read_classes_of_masks, sort_names
from .files import Read
from .selection import subset

Source = tuple[str, str | None, str | None, str]  # path, config, revision, split


@dataclass
class HuggingFace(HasClasses):
    """The rows of a split; `image`, and `label` or `mask`, are names of columns.

    `path` is a hub id, a folder that `save_to_disk` wrote, or a folder of images with or without metadata.
    With a column `mask` the task is segmentation, else classification. Classes have the names that the label
    column defines or contains, or those of `classes_file` (see `read_classes`), which masks and plain numbers
    need. Rows with the same value in the column `group` are a group, such as the frames of a video.
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
    per_class: Positive | None = None
    limit: Positive | None = None
    seed: NotNegative = 0
    vary: dict[str, list[str]] = field(default_factory=dict)
    name: str = "huggingface"

    def __post_init__(self) -> None:
        """Replaces a leading ~ of a path by the home folder."""
        if self.path.startswith("~"):
            self.path = str(Path(self.path).expanduser())

    @property
    def task(self) -> str:
        """Returns the name of the task."""
        return "classification" if self.mask is None else "segmentation"

    @property
    def available(self) -> int:
        """Returns the number of samples before limits."""
        return len(self._table)

    def samples(self) -> list[Sample]:
        """Returns a sample for each row; raises a UserError if there are no rows or a column is missing."""
        rows = range(len(self._table))
        if not rows:
            raise UserError(f"{self.path} has no rows in its split {self.split}")
        labels = [None] * len(rows) if self.mask is not None else self._labels
        groups = [""] * len(rows) if self.group is None else list(map(str, self._table[self.group]))
        colours = {} if self.mask is None else self._table_of_classes.mask_colours
        return [
            Sample(
                f"{row:06}",
                partial(_read, self._source, self.image, row),
                None if self.mask is None else partial(_read, self._source, self.mask, row),
                label=labels[row],
                group=groups[row],
                mask_colours=colours,
            )
            for row in subset(rows, self.limit, self.seed, self.per_class, labels)
        ]

    def published(self) -> dict[str, int]:
        """Returns the sizes of the files to fetch from the hub; empty for a data set on this machine."""
        if Path(self.path).exists():
            return {}
        import huggingface_hub

        datasets = _library()
        builder = datasets.load_dataset_builder(self.path, self.config, revision=self.revision)
        if Path(builder.cache_dir).exists():
            return {}
        about = huggingface_hub.dataset_info(
            self.path, revision=self.revision, files_metadata=True, timeout=10
        )
        sizes = {file.rfilename: file.size or 0 for file in about.siblings or ()}
        addresses = [str(file) for files in builder.config.data_files.values() for file in files]
        names = [address.partition("@")[2].partition("/")[2] for address in addresses]
        return {name: sizes.get(name, 0) for name in names}

    @property
    def _source(self) -> Source:
        return (self.path, self.config, self.revision, self.split)

    @property
    def _table(self) -> Any:
        table = _open(self._source)
        options = {"image": self.image} | (
            {"label": self.label} if self.mask is None else {"mask": self.mask}
        )
        options |= {"group": self.group} if self.group is not None else {}
        for option, column in options.items():
            if column not in table.column_names:
                raise UserError(
                    f"{self.path} has no column {column}: set dataset.{option} to one of "
                    f"{', '.join(table.column_names)}"
                )
        return table

    @property
    def _dtype(self) -> str:
        return str(getattr(self._table.features[self.label], "dtype", ""))

    @cached_property
    def _names(self) -> list[str] | None:
        """Returns the names of the labels, by id if they are ids; None for plain numbers."""
        if self._dtype == "bool":
            return ["false", "true"]
        if self._dtype in ("string", "large_string"):
            return sort_names(list(set(self._table[self.label]) - {None}))
        names: list[str] | None = getattr(self._table.features[self.label], "names", None)
        return names

    @cached_property
    def _table_of_classes(self) -> Classes:
        if self.mask is not None:
            return read_classes_of_masks(self.classes_file, self._list_masks)
        if self.classes_file is not None:
            return read_classes(self.classes_file)
        if self._names is None:
            raise UserError(
                f"the column {self.label} of {self.path} holds no names: set dataset.label to one that does, "
                "or "
                "dataset.classes_file to their names"
            )
        return Classes(make_readable(self._names, f"the column {self.label} of {self.path}"))

    def _list_masks(self) -> list[Read]:
        return [partial(_read, self._source, self.mask or "", row) for row in range(len(self._table))]

    @property
    def _labels(self) -> list[int | None]:
        values = list(self._table[self.label])
        if self._names is None:
            return [self._read_number(value, row) for row, value in enumerate(values)]
        ids = self._table_of_classes.find_ids(self._names, self.path)
        if self._dtype in ("string", "large_string"):
            return [ids.get(value) for value in values]
        # -1 marks a row without a label
        return [
            ids[self._names[int(value)]] if value is not None and value >= 0 else None for value in values
        ]

    def _read_number(self, value: float | None, row: int) -> int | None:
        """Returns the class id of a number; tables with gaps contain 1.0 instead of 1, and NaN."""
        if value is None or value != value:
            return None
        if not isinstance(value, int | float) or value != int(value):
            raise UserError(
                f"row {row} of {self.path} has {value!r} in its column {self.label}, which is no class id: "
                "set "
                "dataset.label to another column"
            )
        return int(value)


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "dataset=huggingface needs the package datasets: pip install 'dillema[huggingface]'"
        ) from error
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
    except Exception as error:  # errors of many types: a missing split, a damaged file, no network
        raise UserError(
            f"the split {split} of {path} cannot be opened: {error}\nGive dataset.path (a folder, or the id "
            "of a data set "
            "on the Hugging Face hub), dataset.config and dataset.split. What needs no download: "
            "dataset=mini_shift or "
            "dataset=mini_imagenet"
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
