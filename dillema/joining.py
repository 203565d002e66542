"""Joins the files of several shards, in which the lines or rows are sorted by their source.

What is joined is byte for byte the file that a run without shards would have written.
"""

import heapq
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import predictions
from .errors import UserError
from .task import Labels, get_task

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS_PER_READ = 256  # of each file at a time: many shards may be open at once


def join_lines(files: Sequence[Path], target: Path) -> None:
    """Joins files of JSON lines that have a field `source`; the lines themselves do not change."""
    with ExitStack() as opened:
        parts = [opened.enter_context(file.open(encoding="utf-8")) for file in files]
        with target.open("w", encoding="utf-8") as joined:
            joined.writelines(heapq.merge(*parts, key=lambda line: json.loads(line)["source"]))


def join_predictions(files: Sequence[Path], target: Path, labels: Labels) -> None:
    """Joins files of predictions. Raises a UserError for files with different columns."""
    import pyarrow as pa

    parts = [predictions.open_file(file) for file in files]
    schema = predictions.make_schema(get_task(labels.task), predictions.score_names(files[0]))
    for file, part in zip(files, parts, strict=True):
        if not part.schema_arrow.equals(schema):
            raise UserError(f"{file} has other columns than {files[0]}: they are of different runs")
    slices = heapq.merge(*map(_slice_by_source, parts), key=itemgetter(0))
    waiting = pa.Table.from_batches([], schema)
    with (
        predictions.whole_file(target) as temporary,
        predictions.open_writer(temporary, schema) as writer,
    ):
        for rows in _in_tables(slices, schema):
            waiting = pa.concat_tables([waiting, rows])
            while len(waiting) >= predictions.ROWS_PER_WRITE:
                writer.write_table(waiting.slice(0, predictions.ROWS_PER_WRITE).combine_chunks())
                waiting = waiting.slice(predictions.ROWS_PER_WRITE)
        if len(waiting):
            writer.write_table(waiting.combine_chunks())


def _slice_by_source(file: "pq.ParquetFile") -> "Iterator[tuple[str, pa.RecordBatch]]":
    """Yields the rows of each source, with its name; those of a large source in several parts."""
    for batch in file.iter_batches(ROWS_PER_READ):
        names = batch["source"].to_numpy(zero_copy_only=False)
        changes = np.flatnonzero(names[1:] != names[:-1]) + 1
        for start, end in pairwise([0, *changes.tolist(), len(names)]):
            yield names[start], batch.slice(start, end - start)


def _in_tables(slices: "Iterator[tuple[str, pa.RecordBatch]]", schema: "pa.Schema") -> "Iterator[pa.Table]":
    """Yields the rows in tables of some thousand rows."""
    import pyarrow as pa

    batches: list[pa.RecordBatch] = []
    count = 0
    for _, batch in slices:
        batches.append(batch.cast(schema))  # Parquet renames the parts of lists
        count += len(batch)
        if count >= predictions.ROWS_PER_WRITE:
            yield pa.Table.from_batches(batches, schema)
            batches, count = [], 0
    yield pa.Table.from_batches(batches, schema)
