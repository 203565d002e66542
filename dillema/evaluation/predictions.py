"""What models said about images, one row an image, in a Parquet file: every figure comes from it, so a new one needs no inference.

| column | what |
|---|---|
| `model`, `image`, `source` | names; a counterfactual and the truth about it share an `image`, an original is called like its source |
| `digest` | of the image: the same one is so in all runs |
| `kind` | `original`, `counterfactual`, or `truth` (a real render of what a counterfactual stands for) |
| `valid` | whether the image counts; true for originals |
| `edits` | JSON: a list of [attribute, from, to] |
| `confidence` | of the true class; null where nothing is scored |
| `label`, `predicted`, `certainty`, `top5` | classification: class ids, `certainty` is the confidence in `predicted`, `top5` the best first |
| `confusion` | segmentation: a list of [true class, predicted class, pixels] |
| `mistakes` | segmentation: where the prediction is wrong, an image (see evaluation.module.Evaluation) |
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import UserError
from ..types import Edit, Task

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

KINDS = ORIGINAL, COUNTERFACTUAL, TRUTH = ("original", "counterfactual", "truth")
WRITTEN = 2_000  # rows held while a file is written, each with some 15 KB of a street's confusion
BATCH = 10_000  # rows whose confusions are held while it is read


class Labels(Protocol):
    """What of a data set predictions are read by."""

    @property
    def task(self) -> Task:
        """Returns the task."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Returns the names of the classes."""
        ...


@dataclass(frozen=True)
class Predictions:
    """What one model said about images: columns of one row an image, sorted by source, kind and image, each image once.

    `tallies` add up: right, among the best five, and 1 for classification (rows, 3); hits, true pixels and predicted
    pixels of each class for segmentation (rows, 3 * classes). `confidence` is NaN where nothing was scored. `label`,
    `predicted` and `certainty` are empty for segmentation. `source` and `combination` are places in `sources` and `combinations`.
    """

    path: Path
    classes: int
    place: np.ndarray  # of each row of the file: its row here, or -1
    image: np.ndarray
    digest: np.ndarray
    sources: np.ndarray
    source: np.ndarray
    kind: np.ndarray
    valid: np.ndarray
    combinations: list[tuple[Edit, ...]]
    combination: np.ndarray
    confidence: np.ndarray
    tallies: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    certainty: np.ndarray

    def pairs(self, kind: str = COUNTERFACTUAL, valid: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of originals and, beside each, those of its images of a kind; only of valid ones when asked."""
        original = np.full(len(self.sources), -1)
        originals = np.flatnonzero(self.kind == ORIGINAL)
        original[self.source[originals]] = originals
        after = np.flatnonzero((self.kind == kind) & (original[self.source] >= 0) & (self.valid | (not valid)))
        return original[self.source[after]], after

    def confusion(self, weights: np.ndarray) -> np.ndarray:
        """Returns the confusion matrix (classes, classes) of all rows, each counted as often as its weight says: true classes are rows."""
        n = self.classes
        if len(self.label):
            return np.bincount(self.label * n + self.predicted, weights, n * n).reshape(n, n)
        total, weights = np.zeros(n * n), np.append(weights, 0)  # the last is that of places of -1
        for places, row, true, predicted, pixels in _cells(self.path, self.place):
            total += np.bincount(true * n + predicted, pixels * weights[places][row], n * n)
        return total.reshape(n, n)


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows with the columns above; those that a task lacks may be missing. Holds WRITTEN rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.int32()
    columns = [(name, text) for name in ("model", "image", "digest", "source", "kind", "edits")] + [("valid", pa.bool_()), ("confidence", pa.float64())]
    columns += [("label", number), ("predicted", number), ("certainty", pa.float64()), ("top5", pa.list_(number)), ("confusion", pa.list_(pa.list_(number, 3)))]
    columns += [("mistakes", text)]
    schema, left = pa.schema(columns), iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while some := list(islice(left, WRITTEN)):
            writer.write_table(pa.Table.from_pylist(some, schema))


def row(
    model: str, image: str, source: str, kind: str, said: Mapping[str, Any], edits: Iterable[Edit] = (), valid: bool = True, digest: str = ""
) -> dict[str, Any]:
    """Returns a row for `write`; `said` is a record of evaluation.module.Evaluation."""
    names = {"model": model, "image": image, "digest": digest, "source": source, "kind": kind, "valid": valid}
    return {**names, "edits": json.dumps([[e.attribute, e.original, e.replacement] for e in edits]), **said}


def read(path: Path, model: str, dataset: Labels) -> Predictions:
    """Returns what a model said. A row that stands in the file twice counts once, so samplers may pad.

    Memory grows by some 300 bytes a row and 12 bytes a row and class. Raises a UserError for a file that holds no predictions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = {"source", "kind", "image", "model", "valid", "edits", "confidence", "digest"}
    if dataset.task == "classification":
        names |= {"label", "predicted", "certainty", "top5"}
    try:
        file = pq.ParquetFile(path)
        if lacking := names - {*file.schema_arrow.names}:
            raise UserError(f"{path} holds no predictions: it has no column {min(lacking)}")
        rows = _rows(file, model)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} holds no predictions: {error}") from error
    place = np.full(file.metadata.num_rows, -1)
    place[rows] = np.arange(len(rows))

    def column(name: str) -> "pa.Array":  # one at a time, for they are large
        return file.read([name])[name].take(rows).combine_chunks()

    def values(name: str) -> np.ndarray:
        return column(name).to_numpy(zero_copy_only=False)

    def encoded(name: str) -> tuple["pa.Array", np.ndarray]:
        codes = column(name).dictionary_encode()
        return codes.dictionary, codes.indices.to_numpy().astype(np.int64)

    label = predicted = certainty = np.zeros(0, np.int64)
    if dataset.task == "classification":
        label, predicted, certainty = values("label").astype(np.int64), values("predicted").astype(np.int64), values("certainty")
        tallies = np.stack([label == predicted, _among(column("top5"), label), np.ones(len(rows), bool)], 1).astype(np.int32)
    else:
        tallies = _tallies(path, place, len(rows), len(dataset.classes))
    (sources, source), (kinds, kind), (edits, combination) = map(encoded, ("source", "kind", "edits"))
    return Predictions(
        path=path,
        classes=len(dataset.classes),
        place=place,
        image=values("image"),
        digest=values("digest"),
        sources=sources.to_numpy(zero_copy_only=False),
        source=source,
        kind=kinds.to_numpy(zero_copy_only=False)[kind],
        valid=values("valid"),
        combinations=[tuple(Edit(*edit) for edit in json.loads(text)) for text in edits.to_pylist()],
        combination=combination,
        confidence=values("confidence"),
        tallies=tallies,
        label=label,
        predicted=predicted,
        certainty=certainty,
    )


def mistakes(path: Path, model: str, images: Collection[str]) -> dict[tuple[str, str], str]:
    """Returns what a model got wrong in some images, as the column has it, by kind and name of the image."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: dict[tuple[str, str], str] = {}
    wanted = pa.array(images, pa.string())
    for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=["model", "kind", "image", "mistakes"]):
        some = batch.filter(pc.and_(pc.equal(batch["model"], model), pc.is_in(batch["image"], wanted)))
        found.update(zip(zip(some["kind"].to_pylist(), some["image"].to_pylist(), strict=True), some["mistakes"].to_pylist(), strict=True))
    return found


def _rows(file: "pq.ParquetFile", model: str) -> np.ndarray:
    """Returns the rows of a file that are of a model, sorted by source, kind and image, each image once."""
    import pyarrow.compute as pc

    names = ["source", "kind", "image"]
    rows = np.flatnonzero(pc.equal(file.read(["model"])["model"], model).to_numpy())
    keys = file.read(names).take(rows)
    order = pc.sort_indices(keys, [(name, "ascending") for name in names]).to_numpy()
    keys = keys.take(order)
    new = np.ones(len(rows), bool)
    new[1:] = ~np.logical_and.reduce([pc.equal(keys[name][1:], keys[name][:-1]).to_numpy() for name in names])
    return rows[order][new]


def _among(lists: "pa.ListArray", wanted: np.ndarray) -> np.ndarray:
    """Returns whether each list holds the number that is wanted of it."""
    import pyarrow.compute as pc

    parents = pc.list_parent_indices(lists).to_numpy()
    return np.bincount(parents, lists.flatten().to_numpy() == wanted[parents], len(wanted)) > 0


def _tallies(path: Path, place: np.ndarray, rows: int, classes: int) -> np.ndarray:
    tallies = np.zeros((rows + 1, 3, classes), np.int32)  # the last row takes what has a place of -1
    for places, row, true, predicted, pixels in _cells(path, place):
        for i, (found, counted) in enumerate(((true, pixels * (true == predicted)), (true, pixels), (predicted, pixels))):
            tallies[places, i] = np.bincount(row * classes + found, counted, len(places) * classes).reshape(-1, classes)
    return tallies[:-1].reshape(rows, 3 * classes)


def _cells(path: Path, place: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields the confusions of a file batch by batch: the places of its rows, and, one entry a cell, its row there, true class, predicted class and pixels."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    start = 0
    for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=["confusion"]):
        lists = batch.column(0)
        cells = lists.flatten().flatten().to_numpy().reshape(-1, 3)
        yield place[start : start + len(batch)], pc.list_parent_indices(lists).to_numpy(), *(cells[:, i].astype(np.int64) for i in range(3))
        start += len(batch)
