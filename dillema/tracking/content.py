"""Collects the data of a finished run for MLflow from its run folder."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from heapq import nsmallest
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any

from PIL import Image

from ..report.costs import summarise_costs
from ..report.words import describe_run
from ..run_folder import RunFolder, StoredImage, is_checked
from .pending import FIGURES, UNSENT, PendingRun

TABLE_ROWS = 10_000  # MLflow's page loads whole tables
GRID_IMAGES = 16  # counterfactuals whose images are logged: the same ones in all runs on the same sources
SKIPPED_KEYS = ("per_class", "per_condition", "plan", "seed", "level", "version")


def collect(folder: RunFolder, pending: PendingRun, price_per_hour: float | None) -> None:
    """Adds the figures, tables, images and the description of a finished run to its unsent data."""
    results, unsent = folder.results, folder.path / UNSENT
    pending.tags["models"] = ", ".join(results["models"])
    pending.tags["mlflow.note.content"] = describe_run(folder)
    checked = is_checked(results)
    counts = {name: count for name, count in results["counts"].items() if checked or name != "valid"}
    costs = summarise_costs(results, price_per_hour)
    pending.metrics = flatten_metrics(results | {"counts": counts} | costs)
    pending.dataset = _describe_generated_set(folder)
    tables = {
        "pairs": [_describe_image(image) for image in islice(folder.generated(), TABLE_ROWS)],
        "per_attribute": [
            {"model": model} | row
            for model, figures in results["models"].items()
            for row in figures.get("per_attribute", ())
        ],
        "comparisons": [_flatten_comparison(row) for row in results.get("comparisons", ()) if row["sources"]],
    }
    for name, rows in tables.items():
        if rows:
            _write_table(rows, unsent / "tables" / f"{name}.json")
    (unsent / "images").mkdir(exist_ok=True)
    for image in nsmallest(GRID_IMAGES, folder.generated(), key=_variant_number):
        join_images(image.original, image.path).save(
            unsent / "images" / f"{as_key(image.id)}.png", compress_level=1
        )
    # another name, so that MLflow's copy does not look like a run folder
    shutil.copyfile(folder.path / "results.json", unsent / FIGURES)
    pending.write(folder.path)


def flatten_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of results.json by the path to them, without the long tables.

    The main metric of a model is called `original` and `counterfactual`. The name of a single model is left
    out.
    """
    metrics = _flatten({name: value for name, value in results.items() if name != "models"})
    models = results["models"]
    for model, figures in models.items():
        prefix = "" if len(models) == 1 else f"{model}/"
        metrics |= _flatten(figures, prefix)
        for kind in ("original", "counterfactual"):
            value = (figures.get(kind) or {}).get(figures.get("metric"))
            if value is not None:
                metrics[as_key(prefix + kind)] = float(value)
    return metrics


def as_key(name: str) -> str:
    """Returns a name in the form that MLflow accepts for parameters, metrics and images."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


def join_images(left: Path, right: Path) -> Image.Image:
    """Returns two images side by side, both in the size of the right one."""
    with Image.open(left) as first, Image.open(right) as second:
        joined = Image.new("RGB", (2 * second.width, second.height))
        joined.paste(first.convert("RGB").resize(second.size), (0, 0))
        joined.paste(second, (second.width, 0))
    return joined


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    metrics: dict[str, float] = {}
    for key, value in values.items():
        if key in SKIPPED_KEYS:
            continue
        if isinstance(value, Mapping):
            metrics |= _flatten(value, f"{prefix}{key}/")
        elif isinstance(value, Real) and not isinstance(value, bool):
            metrics[as_key(prefix + key)] = float(value)
    return metrics


def _variant_number(image: StoredImage) -> str:
    """Returns the key that sorts the first counterfactual of every source before the second ones."""
    return image.id.rpartition("_")[2]


def _describe_generated_set(folder: RunFolder) -> dict[str, str]:
    """Returns the fields of MLflow's entity of a data set."""
    digest = hashlib.sha256()
    for image in folder.generated():
        digest.update(image.key.encode())
    counts = folder.results["counts"]
    return {
        "name": f"{folder.results['dataset']}-counterfactuals",
        "digest": digest.hexdigest()[:32],
        "source_type": "local",
        "source": json.dumps({"uri": (folder.path / "generated").resolve().as_uri()}),
        "profile": json.dumps({"num_rows": counts["generated"], "valid": counts["valid"]}),
    }


def _describe_image(image: StoredImage) -> dict[str, Any]:
    edits = "; ".join(f"{e.attribute}: {e.original} -> {e.replacement}" for e in image.counterfactual.edits)
    texts = {"caption": image.caption.text, "counterfactual": image.counterfactual.text, "edits": edits}
    valid = image.verdict.valid if image.verdict.checked else None
    return (
        {"id": image.id, "source": image.source}
        | texts
        | {"valid": valid, "reasons": "; ".join(image.verdict.reasons)}
    )


def _flatten_comparison(row: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: row[name] for name in ("a", "b", "metric", "paired", "sources")}
    for kind in ("original", "counterfactual", "drop"):
        columns |= {f"{kind}_{name}": value for name, value in row[kind].items()}
    return columns


def _write_table(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Writes rows in MLflow's format for tables: JSON with the values of each column."""
    rows = list(rows)
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps({column: [row[column] for row in rows] for column in rows[0]}), encoding="utf-8"
    )
