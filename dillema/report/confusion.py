"""The confusion matrices of the models: all counts in a file, and the classes that the page shows."""

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..files import write_atomically
from ..predictions import Predictions
from ..run_folder import RunFolder
from ..statistics import confusion_matrix
from ..types import COUNTERFACTUAL, ORIGINAL

KINDS = (ORIGINAL, COUNTERFACTUAL)
SHOWN_CLASSES = 20
NAME_LENGTH = 80


def write_confusion_matrices(
    folder: RunFolder, predictions: Mapping[str, Predictions]
) -> dict[str, dict[str, Any] | None]:
    """Writes confusion_<model>.csv of each model into a run folder, and removes those of another run.

    A row of the file is of one kind of images and one true class, a column of one predicted class.

    Returns:
        What the page shows of each model; None where there is no confusion matrix, and no file.
    """
    views: dict[str, dict[str, Any] | None] = {}
    files = name_files(folder.models)
    for model in folder.models:
        matrices = {}
        for kind in KINDS:
            classes, matrix = confusion_matrix(predictions[model], kind)
            if matrix.any():
                matrices[kind] = matrix
        if not matrices:
            views[model] = None
            continue
        write_atomically(folder.path / files[model], format_csv(classes, matrices))
        views[model] = build_view(classes, matrices, folder.labels.ignored) | {"file": files[model]}
    current = {view["file"] for view in views.values() if view}
    for file in folder.path.glob("confusion_*.csv"):
        if file.name not in current:
            file.unlink()
    return views


def name_files(models: Sequence[str]) -> dict[str, str]:
    """Returns the name of the file of each model: no two are equal."""
    names: dict[str, str] = {}
    for number, model in enumerate(models):
        safe = re.sub(r"[^\w.-]+", "_", model, flags=re.ASCII)[:NAME_LENGTH]
        name = f"confusion_{safe}.csv"
        names[model] = f"confusion_{safe}_{number}.csv" if name in names.values() else name
    return names


def format_csv(classes: Sequence[str], matrices: Mapping[str, np.ndarray]) -> str:
    """Returns the counts of all kinds of images as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["images", "true", *classes])
    for kind, matrix in matrices.items():
        for name, counts in zip(classes, matrix.tolist(), strict=True):
            writer.writerow([kind, name, *counts])
    return text.getvalue()


def build_view(
    classes: Sequence[str], matrices: Mapping[str, np.ndarray], ignored: Collection[int] = ()
) -> dict[str, Any]:
    """Returns the shares of the scored classes with the most confusions, and how many are not shown."""
    total = np.sum(list(matrices.values()), axis=0)
    total[[i for i in ignored if i < len(total)]] = 0
    present = np.flatnonzero(total.sum(0) + total.sum(1))
    wrong = total * ~np.eye(len(total), dtype=bool)
    confusions = wrong.sum(0) + wrong.sum(1)
    most_confused = present[np.argsort(-confusions[present], kind="stable")][:SHOWN_CLASSES]
    shown = np.sort(most_confused)
    names = [classes[i] for i in shown]
    maps = []
    for kind, matrix in matrices.items():
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        rows = [
            [
                {"percent": 100 * float(shares[i, j]), "count": int(matrix[i, j]), "right": i == j}
                for j in shown
            ]
            for i in shown
        ]
        maps.append({"kind": kind, "classes": names, "rows": list(zip(names, rows, strict=True))})
    return {"maps": maps, "hidden_classes": len(present) - len(shown)}
