"""Real images of adverse conditions in folders, by which estimated drops are checked."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..backend import Dataset
from ..decoding import read_text
from ..errors import UserError
from ..fields import NotNegative, Positive
from ..types import Sample
from .files import make_ids, make_printable
from .folder import Folder
from .imagenet import classes as imagenet_classes
from .selection import subset

NORMAL = {"weather": "clear", "time of day": "daytime"}
FILE_COLUMNS = ("file_name", "name")


@dataclass
class FolderReference:
    """Images in folders, with labels as those of `Folder`, and the condition of each.

    `folders` are folders below `images`, and below `masks` if there are masks; each has the attributes of its
    images, such as {fog/val: {weather: foggy}}. `table` is a file that gives attributes of single images: a
    CSV file with a column file_name, or JSON in Scalabel's format. `columns` names its column for each
    attribute, and `values` renames values. Images that lack an attribute of `columns` are left out.

    `normal` has the values of the normal condition. An attribute that a folder or table does not give has
    this value. At most `per_condition` images of a condition are drawn.
    """

    root: str
    folders: dict[str, dict[str, str]] = field(default_factory=lambda: {"": {}})
    images: str = ""
    masks: str | None = None
    table: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    normal: dict[str, str] = field(default_factory=lambda: dict(NORMAL))
    image_suffix: str | None = None
    mask_suffix: str = ".png"
    classes_file: str | None = None
    group: str | None = None
    per_condition: Positive | None = None
    seed: NotNegative = 0
    name: str = "folder"

    def samples(self, dataset: Dataset) -> list[Sample]:
        """Returns the images with labels in the classes of a data set; see `Reference`."""
        table = None if self.table is None else self._read_table(Path(self.root, self.table).expanduser())
        by_condition: dict[tuple[str, ...], list[Sample]] = {}
        for folder, given in self.folders.items():
            unknown = given.keys() - self.normal.keys()
            if unknown:
                raise UserError(
                    f"reference.folders.{folder}: {min(unknown)} is no attribute of reference.normal, which "
                    f"has {', '.join(self.normal)}"
                )
            for sample in self._read_folder(folder, dataset):
                row = {} if table is None else table.get(sample.id)
                if row is None:
                    continue
                attributes = {**self.normal, **given, **row}
                sample_id = f"reference-{make_ids([f'{folder}/{sample.id}'])[0].strip('_')}"
                placed = replace(sample, id=sample_id, attributes=attributes)
                by_condition.setdefault(tuple(attributes.values()), []).append(placed)
        selected: list[Sample] = []
        for samples in by_condition.values():
            drawn = {*subset([sample.id for sample in samples], self.per_condition, self.seed)}
            selected += [sample for sample in samples if sample.id in drawn]
        if not selected:
            raise UserError(
                f"reference: {Path(self.root).expanduser().absolute()} has no image with a known condition: "
                f"see reference.folders{'' if self.table is None else f' and {self.table}'}"
            )
        return sorted(selected, key=lambda sample: sample.id)

    def _read_folder(self, folder: str, dataset: Dataset) -> list[Sample]:
        """Returns the samples of a folder with labels in the classes of a data set."""
        inner = Folder(
            root=self.root,
            images=str(Path(self.images, folder)),
            masks=None if self.masks is None else str(Path(self.masks, folder)),
            image_suffix=self.image_suffix,
            mask_suffix=self.mask_suffix,
            classes_file=self.classes_file,
            group=self.group,
            name=self.name,
        )
        if inner.task != dataset.task:
            needed = "reference.masks" if dataset.task == "segmentation" else "no reference.masks"
            raise UserError(
                f"reference: {self.name} has labels for {inner.task}, but {dataset.name} for {dataset.task}, "
                f"which needs {needed}"
            )
        samples = inner.samples()
        if self.masks is not None:
            if tuple(inner.classes) != tuple(dataset.classes):
                raise UserError(
                    f"reference: the masks of {self.name} have the classes {_shorten(inner.classes)}, those "
                    f"of {dataset.name} {_shorten(dataset.classes)}. They must be the same, in the same "
                    "order: see reference.classes_file"
                )
            return samples
        return _match_labels(samples, inner.classes, dataset)

    def _read_table(self, path: Path) -> dict[str, dict[str, str]]:
        """Returns the attributes of each image that has all of them, by its id within its folder."""
        rows: dict[str, dict[str, str]] = {}
        for number, (file, cells) in enumerate(_read_rows(path), 1):
            attributes = {}
            for attribute, column in self.columns.items():
                if column not in cells:
                    raise UserError(
                        f"{path}, image {number}: there is no column {column} (reference.columns); there are "
                        f"{_shorten(list(cells))}"
                    )
                value = str(cells[column]).strip()
                attributes[attribute] = self.values.get(value, value)
            if all(value and value != "undefined" for value in attributes.values()):
                rows[make_ids([self._find_stem(file)])[0]] = attributes
        return rows

    def _find_stem(self, file: str) -> str:
        """Returns the part of a file's name from which `Folder` makes the id."""
        if self.masks is None:
            return file
        return file.removesuffix(self.image_suffix) if self.image_suffix else file.rpartition(".")[0]


def _read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the name of each image of a table, and its cells by column."""
    text = read_text(path, "reference.table")
    if path.suffix == ".json":
        try:
            content = json.loads(text)
            frames = content["frames"] if isinstance(content, dict) else content
            yield from ((str(frame["name"]), frame.get("attributes") or {}) for frame in frames)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is not in Scalabel's format, a list of frames with name and attributes: {error!r}"
            ) from error
        return
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    names = [name for name in FILE_COLUMNS if name in (reader.fieldnames or ())]
    if not names:
        raise UserError(f"{path}: the first line should name the columns, among them {FILE_COLUMNS[0]}")
    for row in reader:
        yield str(row[names[0]]), {name: value or "" for name, value in row.items() if name is not None}


def _match_labels(samples: Sequence[Sample], names: Sequence[str], dataset: Dataset) -> list[Sample]:
    """Returns samples whose labels are class ids of a data set, matched by the names of the classes."""
    ids = {name: i for i, name in enumerate(dataset.classes)}
    wordnet = imagenet_classes()
    labels = [ids.get(name, ids.get(wordnet.get(name, ""))) for name in names]
    unknown = [make_printable(name) for name, label in zip(names, labels, strict=True) if label is None]
    if unknown:
        raise UserError(
            f"reference: {_shorten(unknown)} are no classes of {dataset.name}, which has "
            f"{_shorten(dataset.classes)}"
        )
    return [replace(sample, label=labels[sample.label or 0]) for sample in samples]


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
