"""The job that puts runs side by side, and what does so after a sweep."""

import atexit
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import UserError
from ..evaluation import predictions, statistics
from ..report import percent, verdict, words
from ..tracking import totals
from ..types import Task
from .run import against, flat

log = logging.getLogger(__name__)


class Comparison(Callback):
    """Puts the runs of a sweep side by side when the sweep is over."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Has the sweep's folder looked at last of all; Hydra's own hook for that is left out when a run has failed."""
        atexit.register(_after, Path(config.hydra.sweep.dir).absolute())


@dataclass(frozen=True)
class Labels:
    """What the data set of a run was, by its results."""

    name: str
    task: Task
    classes: list[str]


@dataclass
class Row:
    """A model under test in a run: its figures and the run's, and the settings that not all the runs have."""

    folder: Path
    settings: dict[str, str]
    model: str
    figures: dict[str, Any]
    counts: dict[str, int]
    totals: dict[str, float | None]
    labels: Labels


def compare(cfg: DictConfig, runs: Sequence[str]) -> None:
    """Puts runs side by side: a table in the terminal, and comparison.html in Hydra's output folder.

    `runs` are the folders of runs, or of sweeps. Raises a UserError for none, and for one that holds no results.
    """
    if not runs:
        raise UserError("job.runs: name the folders of the runs to compare, or of a sweep, as in job.runs=[outputs/<date>/<time>,multirun/<date>/<time>]")
    folders = []
    for run in map(Path, runs):
        found = _folders(run)
        if not found:
            raise UserError(f"job.runs: {run} holds no run: there is neither {run / 'results.json'} nor a folder in it that has one")
        folders += found
    side_by_side(folders, Path(HydraConfig.get().runtime.output_dir))


def side_by_side(folders: Sequence[Path], target: Path) -> None:
    """Shows runs in the terminal and writes comparison.html to a folder."""
    rows = _rows(folders)
    differences = _differences(rows, folders[0])
    _write(rows, differences, _name(folders[0]), target)
    _show(rows)
    if said := [row for row in differences if row.get("sources")]:
        Console().print(against("runs", said, f"Differences in points from the first run, {_name(folders[0])}, paired"))
    log.info("Runs side by side: %s", target / "comparison.html")


def differences(settings: Iterable[tuple[dict[str, Any], dict[str, Any], set[str]]]) -> list[dict[str, str]]:
    """Returns of the settings of runs those that not all have: the options of groups, then values.

    A run's settings are the options of the groups, the values by their dotted names, and the names given on the command
    line: the values of a group whose options differ are left out unless they were given.
    """
    runs = list(settings)
    options = _differing([options for options, _, _ in runs])
    given = set().union(*(names for _, _, names in runs))
    values = [name for name in _differing([values for _, values, _ in runs]) if name.partition(".")[0] not in options or name in given]
    return [{k: str(o.get(k, "-")) for k in options} | {k: str(v.get(k, "-")) for k in values} for o, v, _ in runs]


def _differing(runs: Sequence[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run)
    return [name for name in names if len({str(run.get(name, "-")) for run in runs}) > 1]


def _folders(folder: Path) -> list[Path]:
    """Returns the folders of runs: a folder itself, or those in it."""
    return [folder] if (folder / "results.json").exists() else sorted(path.parent for path in folder.glob("*/results.json"))


def _after(sweep: Path) -> None:
    if folders := _folders(sweep):
        side_by_side(folders, sweep)


def _settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """Returns the settings of a run as `differences` takes them; none for a run that Hydra did not start."""
    if not (folder / ".hydra").exists():
        return {}, {}, set()
    kept: list[Any] = [OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / f"{name}.yaml")) for name in ("config", "hydra", "overrides")]
    config, hydra, overrides = kept
    options = {group: option for group, option in hydra["hydra"]["runtime"]["choices"].items() if "/" not in group}
    return options, dict(flat(config)), {override.lstrip("+~").partition("=")[0] for override in overrides}


def _rows(folders: Sequence[Path]) -> list[Row]:
    """Returns a row for each model of each run, the largest drop first."""
    rows = []
    known = [_settings(folder) for folder in folders]
    for folder, settings, (_, values, _) in zip(folders, differences(known), known, strict=True):
        results = json.loads((folder / "results.json").read_text())
        labels, sums = Labels(results["dataset"], results["task"], results.get("classes", [])), totals(results, values.get("tracking.price_per_hour"))
        rows += [Row(folder, settings, model, figures, results["counts"], sums, labels) for model, figures in results["models"].items()]
    return sorted(rows, key=lambda row: -2 if row.figures.get("drop") is None else row.figures["drop"], reverse=True)


def _differences(rows: Sequence[Row], first: Path) -> list[dict[str, Any]]:
    """Returns how each model of each run differs from that model in the first run, or else from its first one; `reason` says why it cannot be told."""
    base = [row for row in rows if row.folder == first]
    said = {id(row): _said(row) for row in base}

    def one(row: Row, other: Row) -> dict[str, Any]:
        names = {"a": f"{_name(row.folder)}: {row.model}", "b": f"{other.model} of the first run"}
        a, b = said.get(id(row)) or _said(row), said[id(other)]
        if a is None or b is None:
            return names | {"reason": f"{_name((row if a is None else other).folder)} has no predictions.parquet of this version"}
        if row.labels != other.labels:
            return names | {"reason": f"they are of different data ({row.labels.name} and {other.labels.name})"}
        return names | statistics.compare(a, b, row.labels, 0)

    table = []
    for row in rows if base else ():
        same = next((other for other in base if other.model == row.model), base[0])
        if (other := base[0] if same is row else same) is not row:
            table.append(one(row, other))
    return statistics.comparisons(table)


def _said(row: Row) -> predictions.Predictions | None:
    try:
        return predictions.read(row.folder / "predictions.parquet", row.model, row.labels)
    except UserError:
        return None


def _write(rows: Sequence[Row], differences: Sequence[dict[str, Any]], first: str, target: Path) -> None:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("dillema", "job"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    bounds = [row.figures[key] for row in rows for key in ("drop", "low", "high") if row.figures.get(key) is not None]
    left, right = min([0, *bounds]), max([0.01, *bounds])
    links = {row.folder: quote(os.path.relpath(row.folder / "report.html", target)) for row in rows if (row.folder / "report.html").exists()}
    page = pages.get_template("comparison.html.j2").render(
        rows=rows,
        differences=differences,
        first=first,
        words=words,
        links=links,
        name=_name,
        metric=_metric,
        percent=percent,
        verdict=verdict,
        seconds=_seconds,
        cost=_cost,
        priced=_priced(rows),
        place=lambda value: 100 * (value - left) / (right - left),
    )
    temporary = target / "comparison.html.tmp"
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(target / "comparison.html")


def _show(rows: Sequence[Row]) -> None:
    table, price = Table(box=SIMPLE, padding=(0, 1, 0, 0)), ["cost per valid image"] if _priced(rows) else []
    for header in ("run", "settings that differ", "model", "drop, points", "flip rate", "valid", "s per valid image", *price):
        table.add_column(header, overflow="fold")
    apart = len({row.folder.absolute().parent for row in rows}) > 1
    for row in rows:
        figures, name = row.figures, _name(row.folder) if apart else row.folder.absolute().name
        settings = "\n".join(f"{name}={value}" for name, value in row.settings.items())
        interval = "" if figures.get("low") is None else f"\n{words.points(figures['low'])} to {words.points(figures['high'])}"
        shares = words.points(figures.get("drop")) + interval, percent(figures.get("flip_rate")), percent(row.totals["validity"])
        effort = _seconds(row.totals["seconds_per_valid_image"]), *(_cost(row) for _ in price)
        table.add_row(*map(Text, (name, settings, f"{row.model}\n{_metric(figures)}", *shares, *effort)))
    Console().print(table)


def _name(folder: Path) -> str:
    return f"{folder.absolute().parent.name}/{folder.absolute().name}"


def _metric(figures: dict[str, Any]) -> str:
    return str(figures["metric"]).replace("_", " ").replace("iou", "IoU")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _priced(rows: Sequence[Row]) -> bool:
    """Returns whether the price of any run is known."""
    return any(row.totals["cost_per_valid_image"] is not None for row in rows)


def _cost(row: Row) -> str:
    value = row.totals["cost_per_valid_image"]
    return "-" if value is None else f"{value:.3g}"
