"""Predictions of models in a Parquet file, one row an image. All figures are computed from this file.

| column | content |
|---|---|
| `model`, `image`, `source` | names; an original is named like its source, a truth like its counterfactual |
| `group` | the video or scene of the source; "" for a source that is a group of its own |
| `digest` | a hash of the image: equal images of several runs have equal digests |
| `kind` | `original`, `counterfactual`, `placebo` (of the unchanged caption), `truth` (a real render) or |
| | `reference` (a real image of a condition; see `dillema.reference`) |
| `valid`, `reasons` | whether the image counts, and why not; an original counts |
| `edits` | JSON: a list of [attribute, from, to]; of a reference its condition |
| `score:<gate>.<score>` | the scores of the gates; null for originals and for scores that a gate lacks |
| `confidence` | mean probability of the true class; null if nothing is scored |

and the columns of the task (see `dillema.task`). The metadata of the file's schema hold the version of this
format.
"""

import base64
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np

from .errors import UserError, shorten
from .files import temporary_path
from .task import Answer, Labels, Task, get_task
from .types import Edit, Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PREDICTIONS_VERSION = 2
ORIGINAL, COUNTERFACTUAL, PLACEBO, TRUTH = "original", "counterfactual", "placebo", "truth"
REFERENCE = "reference"
UNCHECKED = (ORIGINAL, REFERENCE)  # kinds of real images, which no gate checks

ROWS_PER_WRITE = 2_000  # rows in memory while a file is written, each with some 15 KB of a street's confusion
ROWS_PER_READ = 10_000  # rows whose columns of the task are in memory while a file is read

_VERSION_KEY = b"dillema.predictions.version"
SCORE_PREFIX = "score:"

P = ParamSpec("P")
Result = TypeVar("Result")


def readable(function: Callable[Concatenate[Path, P], Result]) -> Callable[Concatenate[Path, P], Result]:
    """Returns a function of a file whose errors of damaged content are UserErrors."""

    @wraps(function)
    def read_or_refuse(path: Path, *arguments: P.args, **options: P.kwargs) -> Result:
        try:
            return function(path, *arguments, **options)
        except (OSError, LookupError, ValueError) as error:  # among them all errors of pyarrow
            remedy = "Repeat the run: finished work comes from the store"
            raise UserError(f"{path} is damaged: {shorten(str(error), 500)}. {remedy}") from error

    return cast(Callable[Concatenate[Path, P], Result], read_or_refuse)


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model: one row an image, sorted by source, kind and image, each image once.

    Attributes:
        position: For each row of the file, its row here, or -1.
        image: Names of the images.
        digest: Digests of the images.
        sources: Names of the sources, in alphabetical order.
        source: The index of each row's source in `sources`.
        groups: Names of the groups; a source without a group is a group with the source's name.
        group: The index of each source's group in `groups`.
        kind: Kinds of the images.
        valid: Whether the images count.
        combinations: The combinations of edits that occur.
        combination: The index of each row's edits in `combinations`.
        confidence: The confidences; NaN if nothing was scored.
        tallies: The tallies of the task (rows, width).
        values: The columns that the task names in `Task.values`.
    """

    path: Path
    labels: Labels
    task: Task
    position: np.ndarray
    image: np.ndarray
    digest: np.ndarray
    sources: np.ndarray
    source: np.ndarray
    groups: np.ndarray
    group: np.ndarray
    kind: np.ndarray
    valid: np.ndarray
    combinations: list[tuple[Edit, ...]]
    combination: np.ndarray
    confidence: np.ndarray
    tallies: np.ndarray
    values: Mapping[str, np.ndarray]

    def pairs(
        self, kind: str = COUNTERFACTUAL, valid: bool = False, reference: str = ORIGINAL
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the row of the reference image, and the row of the image, for each image of a kind.

        A source has at most one image of the kind `reference`. With `valid`, only pairs of valid images.
        """
        counts = self.valid | (not valid)
        row_of_source = np.full(len(self.sources), -1)
        references = np.flatnonzero((self.kind == reference) & counts)
        row_of_source[self.source[references]] = references
        after = np.flatnonzero((self.kind == kind) & (row_of_source[self.source] >= 0) & counts)
        return row_of_source[self.source[after]], after

    def confusion(self, weights: np.ndarray) -> np.ndarray:
        """Returns the confusion matrix of all rows, each multiplied by its weight."""
        classes = len(self.task.confusion_names(self.labels))
        total = np.zeros(classes * classes)
        if not classes:
            return total.reshape(0, 0)
        for rows, columns in _task_columns(self.path, self.task, self.position):
            image, true, predicted, count = self.task.confusion_cells(columns)
            total += np.bincount(true * classes + predicted, count * weights[rows][image], classes * classes)
        return total.reshape(classes, classes)

    def list_answers(self, rows: np.ndarray) -> list[Answer]:
        """Returns the predictions of rows in the form that pages show."""
        scores = self.task.score(self.tallies[rows])
        values = [self.values[name][rows].tolist() for name in self.task.values]
        return [
            Answer(
                confidence=None if math.isnan(confidence) else confidence,
                score=None if math.isnan(score) else score,
                tallies=self.tallies[row],
                values={name: column[i] for name, column in zip(self.task.values, values, strict=True)},
            )
            for i, (row, confidence, score) in enumerate(
                zip(rows.tolist(), self.confidence[rows].tolist(), scores.tolist(), strict=True)
            )
        ]


def row(
    model: str,
    image: str,
    source: str,
    kind: str,
    record: Mapping[str, Any],
    *,
    group: str = "",
    edits: Iterable[Edit] = (),
    verdict: Verdict | None = None,
    digest: str = "",
) -> dict[str, Any]:
    """Returns a row for `write`; `record` comes from `Task.record`. An image without a verdict counts."""
    verdict = verdict or Verdict()
    scores = {name: None if math.isnan(value) else value for name, value in verdict.scores.items()}
    return {
        "model": model,
        "image": image,
        "source": source,
        "group": group,
        "digest": digest,
        "kind": kind,
        "valid": verdict.valid,
        "reasons": list(verdict.reasons),
        "edits": json.dumps([[edit.attribute, edit.original, edit.replacement] for edit in edits]),
        **{f"{SCORE_PREFIX}{name}": value for name, value in scores.items()},
        **record,
    }


def write(path: Path, rows: Iterable[Mapping[str, Any]], labels: Labels, score_names: Sequence[str]) -> None:
    """Writes rows to a file, completely or not at all; holds ROWS_PER_WRITE of them in memory.

    `score_names` are the names of all scores of the run's gates, as "<gate>.<score>".
    """
    import pyarrow as pa

    schema = make_schema(get_task(labels.task), score_names)
    binary = [field.name for field in schema if field.type == pa.binary()]
    remaining = iter(rows)
    with whole_file(path) as temporary, open_writer(temporary, schema) as writer:
        while block := list(islice(remaining, ROWS_PER_WRITE)):
            decoded = [
                {**row, **{name: base64.b64decode(row[name]) for name in binary if row.get(name)}}
                for row in block
            ]
            writer.write_table(pa.Table.from_pylist(decoded, schema))


@readable
def read(path: Path, model: str, labels: Labels) -> Predictions:
    """Returns the predictions of a model.

    A repeated row counts once. Memory grows by some 300 bytes a row, and 4 bytes for each of its tallies.
    Raises a UserError for a file without predictions, or of another version.
    """
    task = get_task(labels.task)
    file = open_file(path)
    if lacking := set(task.columns) - {*file.schema_arrow.names}:
        raise UserError(
            f"{path} holds no predictions of the task {task.name}: it has no column {min(lacking)}"
        )
    rows = _rows_of_model(file, model)
    position = np.full(file.metadata.num_rows, -1)
    position[rows] = np.arange(len(rows))

    def column(name: str) -> "pa.Array":  # one at a time, because columns are large
        return file.read([name])[name].take(rows).combine_chunks()

    def values(name: str) -> np.ndarray:
        return column(name).to_numpy(zero_copy_only=False)

    def encoded(name: str) -> tuple["pa.Array", np.ndarray]:
        codes = column(name).dictionary_encode()
        return codes.dictionary, codes.indices.to_numpy().astype(np.int64)

    (sources, source), (kinds, kind), (edits, combination) = map(encoded, ("source", "kind", "edits"))
    names, (group_names, group_of_row) = sources.to_numpy(zero_copy_only=False), encoded("group")
    groups, group = _groups(names, source, group_names.to_numpy(zero_copy_only=False), group_of_row)
    return Predictions(
        path=path,
        labels=labels,
        task=task,
        position=position,
        image=values("image"),
        digest=values("digest"),
        sources=names,
        source=source,
        groups=groups,
        group=group,
        kind=kinds.to_numpy(zero_copy_only=False)[kind],
        valid=values("valid"),
        combinations=[tuple(Edit(*edit) for edit in json.loads(text)) for text in edits.to_pylist()],
        combination=combination,
        confidence=values("confidence"),
        tallies=_tallies(path, task, position, len(rows), labels),
        values={name: values(name) for name in task.values},
    )


@readable
def error_maps(
    path: Path, model: str, images: Collection[str], labels: Labels
) -> dict[tuple[str, str], bytes]:
    """Returns pictures (PNG) that show where a model is wrong, by kind and name of the image.

    Empty for a task without error maps.
    """
    name = get_task(labels.task).error_map
    if not name:
        return {}
    import pyarrow as pa
    import pyarrow.compute as pc

    maps: dict[tuple[str, str], bytes] = {}
    image_names = pa.array(images, pa.string())
    for batch in open_file(path).iter_batches(ROWS_PER_READ, columns=["model", "kind", "image", name]):
        chosen = batch.filter(pc.and_(pc.equal(batch["model"], model), pc.is_in(batch["image"], image_names)))
        for kind, image, file in zip(
            *(chosen[column].to_pylist() for column in ("kind", "image", name)), strict=True
        ):
            if file:
                maps[kind, image] = file
    return maps


def score_names(path: Path) -> list[str]:
    """Returns the names of the scores in a file, as "<gate>.<score>"."""
    names = open_file(path).schema_arrow.names
    return [name.removeprefix(SCORE_PREFIX) for name in names if name.startswith(SCORE_PREFIX)]


def open_writer(path: Path, schema: "pa.Schema") -> "pq.ParquetWriter":
    """Returns a writer of a file whose checksums tell damaged data."""
    import pyarrow.parquet as pq

    return pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)


def make_schema(task: Task, score_names: Sequence[str]) -> "pa.Schema":
    """Returns the columns of a file, with the version of the format."""
    import pyarrow as pa

    text = pa.string()
    columns = [(name, text) for name in ("model", "image", "source", "group", "digest", "kind")]
    columns += [("valid", pa.bool_()), ("reasons", pa.list_(text)), ("edits", text)]
    columns += [(f"{SCORE_PREFIX}{name}", pa.float64()) for name in score_names]
    columns += [("confidence", pa.float64()), *task.columns.items()]
    return pa.schema(columns, {_VERSION_KEY: b"%d" % PREDICTIONS_VERSION})


def open_file(path: Path) -> "pq.ParquetFile":
    """Returns a file of predictions of this version; raises a UserError for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} holds no predictions: {error}") from error
    names = {*file.schema_arrow.names}
    version = (file.schema_arrow.metadata or {}).get(_VERSION_KEY, b"1").decode()
    if lacking := {"source", "kind", "image", "model", "valid", "edits", "confidence", "digest"} - names:
        raise UserError(f"{path} holds no predictions: it has no column {min(lacking)}")
    if version != str(PREDICTIONS_VERSION):
        remedy = "Run it again with the same settings: finished work comes from the store"
        raise UserError(
            f"{path} was written by another version of DILLEMA (format {version}, this version reads "
            f"{PREDICTIONS_VERSION}). {remedy}"
        )
    return file


def _rows_of_model(file: "pq.ParquetFile", model: str) -> np.ndarray:
    """Returns the rows of a model, sorted by source, kind and image, each image once."""
    import pyarrow.compute as pc

    names = ["source", "kind", "image"]
    rows = np.flatnonzero(pc.equal(file.read(["model"])["model"], model).to_numpy())
    keys = file.read(names).take(rows)
    order = pc.sort_indices(keys, [(name, "ascending") for name in names]).to_numpy()
    keys = keys.take(order)
    new = np.ones(len(rows), bool)
    new[1:] = ~np.logical_and.reduce([pc.equal(keys[name][1:], keys[name][:-1]).to_numpy() for name in names])
    return rows[order][new]


def _groups(
    sources: np.ndarray, source: np.ndarray, names: np.ndarray, name_of_row: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the names of the groups, in the order of their first source, and the group of each source.

    `source` and `name_of_row` hold the index of each row in `sources` and in `names`, those of the groups.
    """
    first_row = np.full(len(sources), -1)
    first_row[source[::-1]] = np.arange(len(source))[::-1]
    name = name_of_row[first_row]
    is_ungrouped = names[name] == ""
    key = np.where(is_ungrouped, len(names) + np.arange(len(sources)), name)
    _, first_source, index = np.unique(key, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first_source))
    return np.where(is_ungrouped, sources, names[name])[np.sort(first_source)], rank[index]


def _tallies(path: Path, task: Task, position: np.ndarray, rows: int, labels: Labels) -> np.ndarray:
    tallies = np.zeros((rows, task.width(labels)), np.int32)
    for selected, columns in _task_columns(path, task, position):
        tallies[selected] = task.tallies(columns, labels)
    return tallies


def _task_columns(
    path: Path, task: Task, position: np.ndarray
) -> Iterator[tuple[np.ndarray, Mapping[str, "pa.Array"]]]:
    """Yields the positions of rows and the task's columns of these rows, ROWS_PER_READ at a time."""
    names, start = [name for name in task.columns if name != task.error_map], 0
    for batch in open_file(path).iter_batches(ROWS_PER_READ, columns=names):
        positions = position[start : start + len(batch)]
        start += len(batch)
        selected = np.flatnonzero(positions >= 0)
        if len(selected):
            part = batch if len(selected) == len(batch) else batch.take(selected)
            yield positions[selected], {name: part[name] for name in names}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields the path of a temporary file, which replaces `path` if no error occurs."""
    temporary = temporary_path(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
