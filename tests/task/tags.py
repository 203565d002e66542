"""A task that the package knows nothing of: any number of tags an image.

A data set names it in full: `task = "tests.task.tags"`. The tags of a sample are its attribute "tags".
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dillema.errors import ItemError
from dillema.metrics import ratio
from dillema.task import Task


class Tags(Task):
    """Tallies: of each class whether it was found rightly, is there, and was predicted (3 * classes)."""

    name = "tags"
    version = 1
    metric = "f1"
    metrics_note = "F1 takes the tags of all images together."
    values = ("tags", "predicted")
    outcomes = {"same": "the same tags", "other": "other tags"}  # noqa: RUF012

    def check(self, sample, dataset):
        unknown = set(sample.attributes["tags"].split()) - set(dataset.classes)
        if unknown:
            raise ItemError(f"{sample.id} has unknown tags: {sorted(unknown)}")

    def label_name(self, sample, dataset):
        return ""

    def read_truth(self, sample, size):
        return sample.attributes["tags"].split

    def export(self, sample, dataset, size, folder, name):
        return {"tags": sample.attributes["tags"].split()}

    def record(self, logits, truth, dataset):
        true = [dataset.classes.index(tag) for tag in truth]
        predicted = (logits > 0).nonzero().flatten().tolist()
        return {"tags": true, "predicted": predicted, "confidence": logits.sigmoid()[true].mean().item()}

    @property
    def columns(self):
        return {"tags": pa.list_(pa.int32()), "predicted": pa.list_(pa.int32())}

    def width(self, labels):
        return 3 * len(labels.classes)

    def tallies(self, columns, labels):
        true, predicted = (one_hot(columns[name], len(labels.classes)) for name in ("tags", "predicted"))
        return np.hstack([true & predicted, true, predicted]).astype(np.int32)

    def score(self, sums):
        hits, true, predicted = np.split(sums, 3, -1)
        return ratio(2 * hits.sum(-1), true.sum(-1) + predicted.sum(-1))

    def metrics(self, predictions):
        hits, true, _ = np.split(predictions.sums, 3)
        return {"f1": float(self.score(predictions.sums)), "recall": float(ratio(hits.sum(), true.sum()))}

    def chance_score(self, predictions):
        return float("nan")

    def class_scores(self, sums):
        hits, true, predicted = np.split(sums, 3, -1)
        return np.where(true > 0, ratio(2 * hits, true + predicted), np.nan)

    def describe(self, answer, labels):
        return ", ".join(labels.classes[i] for i in answer.values["predicted"]) or "no tag"

    def outcome(self, before, after):
        return "same" if list(before.values["predicted"]) == list(after.values["predicted"]) else "other"

    def classes_in(self, answer):
        return list(answer.values["tags"])


def one_hot(lists, classes):
    table = np.zeros((len(lists), classes), bool)
    table[pc.list_parent_indices(lists).to_numpy(), lists.flatten().to_numpy()] = True
    return table


TASK = Tags()
