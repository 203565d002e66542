"""Time and memory of many predictions, in processes of their own."""

import os
import resource
import subprocess
import sys

import pytest

# threads that wait for each other on a busy machine would count as work
SINGLE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}

RECORDS = """
import json, resource, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dillema.predictions import read, row, write
from dillema.statistics import compare, summary
from dillema.types import Edit, Verdict
from tests.labels import labels as labels_of

task, path = sys.argv[1], Path(sys.argv[2])
names = tuple(map(str, range({"segmentation": 23, "classification": 1000}[task])))
labels, random = labels_of(task, names), np.random.default_rng(0)
VERDICTS = Verdict(), Verdict(reasons=("agreement is below 0.5",))

def predict(wrong):
    if task == "classification":
        label = int(random.integers(1000))
        predicted = label if random.random() > wrong else int(random.integers(1000))
        record = {"label": label, "predicted": predicted, "certainty": 0.7, "top5": [predicted, 1, 2, 3, 4]}
    else:
        true, guess, pixels = (random.integers(low, high, 35) for low, high in ((0, 23), (0, 23), (1, 1000)))
        guess = np.where(random.random(35) > wrong, true, guess)
        cells = {(t, g): n for t, g, n in zip(*(column.tolist() for column in (true, guess, pixels)))}
        record = {"confusion": [[*cell, count] for cell, count in cells.items()]}
    return record | {"confidence": random.random()}

def rows(sources, values):
    for s in range(sources):
        yield row("m", f"s{s}", f"s{s}", "original", predict(0.1))
        for v in range(4):
            edits = [Edit("weather", "clear", f"w{random.integers(values)}")]
            more = Edit("time of day", "day", f"t{random.integers(3)}"), Edit("colour", "blue", f"c{s % 6}")
            edits += more[: v % 3]
            verdict = VERDICTS[int(random.random() < 0.2)]
            record, image = predict(0.3), f"s{s}_{v}"
            yield row("m", image, f"s{s}", "counterfactual", record, edits=edits, verdict=verdict)
"""

HUNDRED_THOUSAND = """
start = time.process_time()
write(path, rows(20_000, 4), labels, ())
written = time.process_time()
predictions = read(path, "m", labels)
for valid in (True, False):
    figures = summary(predictions, 0, valid=valid)
assert figures["images"] == 80_000 and len(figures["per_attribute"]) == 13
assert figures["low"] < figures["drop"] < figures["high"]
print(written - start, time.process_time() - written)
"""

MILLION = """
write(path, rows(2000, 9), labels, ())
block = pq.read_table(path)
with pq.ParquetWriter(path, block.schema, compression="zstd") as writer:  # the same answers a hundred times
    for b in range(100):
        texts = {"source": [f"{b} {i // 5}" for i in range(10_000)]}
        texts["image"] = [f"{b} {i}" for i in range(10_000)]
        texts["digest"] = [f"{b:032x}{i:032x}" for i in range(10_000)]
        for name, values in texts.items():
            block = block.set_column(block.schema.get_field_index(name), name, pa.array(values))
        writer.write_table(block)
start = time.process_time()
predictions = read(path, "m", labels)
for valid in (True, False):
    figures = summary(predictions, 0, valid=valid)
assert (figures["sources"], figures["images"], len(figures["per_attribute"])) == (200_000, 800_000, 18)
digest = np.where(predictions.kind == "original", predictions.digest, "another")
for other, paired in ((predictions, "images"), (replace(predictions, digest=digest), "sources")):
    assert compare(predictions, other, 0)["paired"] == paired
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def run(program, task, path):
    command = [sys.executable, "-c", RECORDS + program, task, str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=SINGLE_THREAD).stdout
    return map(float, output.split())


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_hundred_thousand_predictions_take_seconds(tmp_path, task):
    written, counted = run(HUNDRED_THOUSAND, task, tmp_path / "p.parquet")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{task}: {written:.1f} s to write, {counted:.1f} s of statistics, {memory:.2f} GB")
    assert counted < 25 and memory < 1


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_million_predictions_take_less_than_a_minute(tmp_path, task):
    seconds, memory = run(MILLION, task, tmp_path / "p.parquet")
    print(f"{task}: {seconds:.1f} s of statistics, {memory:.2f} GB")
    assert seconds < 60 and memory < 1.2
