"""The job that compares runs, and what does so after a sweep."""

import atexit
import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import statistics
from ..context import JobContext, flatten
from ..errors import UserError
from ..predictions import Predictions
from ..report import costs, words
from ..report.page import environment
from ..run_folder import RESULTS, RunFolder
from ..store import write_atomically
from .summary import comparison_table

log = logging.getLogger(__name__)

FILE = "comparison.html"
PAINTING_GROUPS = ("generator", "conditioning")  # whose options the placebo judges


class Comparison(Callback):
    """Compares the runs of a sweep when the sweep is over."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Registers the comparison for the end; Hydra calls no hook there when a run has failed."""
        atexit.register(_compare_sweep, Path(config.hydra.sweep.dir).absolute())


@dataclass
class Run:
    """A run and its number on the page.

    Attributes:
        settings: Those in which not all runs are the same.
    """

    number: int
    folder: RunFolder
    settings: dict[str, str]

    @cached_property
    def images_digest(self) -> str:
        """Returns a hash of all generated images."""
        digest = hashlib.sha256()
        for image in self.folder.generated():
            digest.update(f"{image.id} {image.key}\n".encode())
        return digest.hexdigest()

    @property
    def settings_text(self) -> str:
        """Returns the settings in one line."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


@dataclass
class Row:
    """A model under test in a run: its figures, and what its images cost."""

    run: Run
    model: str
    figures: Mapping[str, Any]
    costs: Mapping[str, float | None]

    @property
    def checked(self) -> bool:
        """Returns whether any gate looked at the images."""
        return bool(self.run.folder.results["gates"])

    @property
    def is_too_few(self) -> bool:
        """Returns whether the figures are of too few sources for any certainty."""
        return words.is_too_few(self.figures)

    @property
    def placebo_drop(self) -> float | None:
        """Returns what the generator alone costs; None for a run without placebos."""
        drop: float | None = (self.figures.get("placebo") or {}).get("drop")
        return drop


def compare(context: JobContext, runs: Sequence[str]) -> None:
    """Compares runs: a table in the terminal, and comparison.html in the folder of the job.

    Args:
        context: Its folder takes the page.
        runs: The folders of runs, or of sweeps.

    Raises a UserError for none, and for a folder that holds no run.
    """
    if not runs:
        raise UserError(
            "job.runs: name the folders of the runs to compare, or of a sweep, as in "
            "job.runs=[outputs/<date>/<time>,multirun/<date>/<time>]"
        )
    folders = []
    for run in map(Path, runs):
        inside = _find_runs(run)
        if not inside:
            raise UserError(
                f"job.runs: {run} holds no run: there is neither {run / RESULTS} "
                "nor a folder in it that has one"
            )
        folders += inside
    compare_folders(folders, context.folder)


def compare_folders(folders: Sequence[Path], target: Path) -> None:
    """Shows a comparison of runs in the terminal, and writes comparison.html to a folder."""
    opened = [RunFolder.open(folder) for folder in folders]
    settings = list_differences([_settings_of(folder) for folder in opened])
    runs = [Run(i, folder, own) for i, (folder, own) in enumerate(zip(opened, settings, strict=True), 1)]
    rows = _list_rows(runs)
    notes = [*find_settings_without_effect(runs), *_rank_generators(rows)]
    differences = _compare_with_first(rows)
    _write_page(runs, rows, differences, notes, target)
    _show(runs, rows, differences, notes)
    log.info("Comparison: %s", target / FILE)


def list_differences(
    settings: Iterable[tuple[Mapping[str, Any], Mapping[str, Any], set[str]]],
) -> list[dict[str, str]]:
    """Returns for each run the settings that differ between runs: options of groups first, then values.

    A run's settings are the options of the groups, the values by their dotted names, and the names given on
    the command line: the values of a group whose options differ are left out unless they were given.
    """
    runs = list(settings)
    options = _differing([options for options, _, _ in runs])
    given = set().union(*(names for _, _, names in runs))
    values = [
        name
        for name in _differing([values for _, values, _ in runs])
        if name.partition(".")[0] not in options or name in given
    ]
    return [
        {name: str(own.get(name, "-")) for name in options}
        | {name: str(more.get(name, "-")) for name in values}
        for own, more, _ in runs
    ]


def find_settings_without_effect(runs: Sequence[Run]) -> list[str]:
    """Returns which settings differ between runs whose generated images are the same."""
    same_by_setting: dict[str, list[bool]] = {}
    for first, second in combinations(runs, 2):
        names = [name for name in first.settings if first.settings[name] != second.settings[name]]
        if len(names) == 1 and first.folder.count_generated():
            same = first.images_digest == second.images_digest
            same_by_setting.setdefault(names[0], []).append(same)
    return [f"{name} has no effect here: same images." for name, same in same_by_setting.items() if all(same)]


def _rank_generators(rows: Sequence[Row]) -> list[str]:
    """Returns the order of generators by what they cost alone, where they differ between runs."""
    ranked = sorted(
        (row for row in rows if row.placebo_drop is not None), key=lambda row: row.placebo_drop or 0.0
    )
    names = [
        name for row in ranked[:1] for name in row.run.settings if name.partition(".")[0] in PAINTING_GROUPS
    ]
    if len(ranked) < 2 or not names:
        return []
    texts = []
    for row in ranked:
        options = ", ".join(f"{name}={row.run.settings[name]}" for name in names)
        valid = f", {words.percent(row.costs['validity'])} valid" if row.checked else ""
        texts.append(
            f"run {row.run.number} ({options}; {row.model}) {words.points(row.placebo_drop)} points{valid}"
        )
    return [f"Generators by what they cost where nothing is changed, the best first: {'; '.join(texts)}."]


def _differing(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run)
    return [name for name in names if len({str(run.get(name, "-")) for run in runs}) > 1]


def _find_runs(folder: Path) -> list[Path]:
    """Returns the folders of runs: a folder itself, or those in it."""
    if (folder / RESULTS).exists():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{RESULTS}"))


def _compare_sweep(sweep: Path) -> None:
    folders = _find_runs(sweep)
    if folders:
        compare_folders(folders, sweep)


def _settings_of(folder: RunFolder) -> tuple[Mapping[str, Any], Mapping[str, Any], set[str]]:
    """Returns the settings of a run as `list_differences` takes them; none without a configuration."""
    settings = folder.settings
    given = {override.lstrip("+~").partition("=")[0] for override in settings.overrides}
    return settings.options, dict(flatten(settings.config)), given


def _list_rows(runs: Sequence[Run]) -> list[Row]:
    """Returns a row for each model of each run, the largest drop first."""
    rows = []
    for run in runs:
        results = run.folder.results
        summary = costs.summarise_costs(results, costs.price_per_hour(run.folder))
        rows += [Row(run, model, figures, summary) for model, figures in results["models"].items()]

    def drop(row: Row) -> float:
        return -2 if row.figures.get("drop") is None else row.figures["drop"]

    return sorted(rows, key=drop, reverse=True)


def _compare_with_first(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns how each model of each run differs from that model in the first run, or from its first one.

    `reason` says why they cannot be compared.
    """
    base = [row for row in rows if row.run.number == 1]
    one_model = len({row.model for row in rows}) == 1
    predictions = {row.model: _read_predictions(row) for row in base}
    table = []
    for row in rows if base else ():
        same_model = next((other for other in base if other.model == row.model), base[0])
        other = base[0] if same_model is row else same_model
        if other is row:
            continue
        names = {"a": _name_row(row, one_model), "b": _name_row(other, one_model)}
        table.append(names | _compare_rows(row, other, predictions[other.model]))
    return statistics.comparisons(table)


def _compare_rows(row: Row, other: Row, others_predictions: Predictions | None) -> dict[str, Any]:
    predictions = _read_predictions(row)
    if predictions is None or others_predictions is None:
        number = (row if predictions is None else other).run.number
        return {"reason": f"run {number} has no predictions.parquet of this version"}
    if row.run.folder.labels != other.run.folder.labels:
        data = f"{row.run.folder.labels.name} and {other.run.folder.labels.name}"
        return {"reason": f"they are of different data ({data})"}
    return statistics.compare(predictions, others_predictions, 0)


def _name_row(row: Row, one_model: bool) -> str:
    return f"run {row.run.number}" if one_model else f"run {row.run.number}: {row.model}"


def _read_predictions(row: Row) -> Predictions | None:
    try:
        return row.run.folder.predictions(row.model)
    except UserError:
        return None


def _heat_rows(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Returns the drops by the values of two settings, for each model, where exactly two settings differ."""
    names = list(rows[0].run.settings) if rows else []
    if len(names) != 2 or any(len({row.run.settings[name] for row in rows}) < 2 for name in names):
        return {}
    by_model: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        values = [row.run.settings[name] for name in names]
        cell = {"attributes": names, "to": values, "drop": row.figures.get("drop"), "run": row.run.number}
        by_model.setdefault(row.model, []).append(cell)
    return by_model


def _write_page(
    runs: Sequence[Run],
    rows: Sequence[Row],
    differences: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    target: Path,
) -> None:
    bounds = [
        row.figures[key]
        for row in rows
        for key in ("drop", "low", "high")
        if row.figures.get(key) is not None
    ]
    page = (
        environment()
        .get_template("comparison.html.j2")
        .render(
            runs=runs,
            rows=rows,
            bounds=[{"value": bound} for bound in bounds],
            differences=differences,
            notes=notes,
            heat_rows=_heat_rows(rows),
            links={run.number: _link_to_report(run, target) for run in runs},
            has_price=_has_price(rows),
            has_placebo=any(row.placebo_drop is not None for row in rows),
        )
    )
    write_atomically(target / FILE, page)


def _link_to_report(run: Run, target: Path) -> str:
    """Returns the address of a run's page, seen from the folder of the comparison; "" where there is none."""
    page = run.folder.path.absolute() / "report.html"
    return quote(os.path.relpath(page, target.absolute())) if page.exists() else ""


def _has_price(rows: Sequence[Row]) -> bool:
    return any(row.costs["cost_per_valid_image"] is not None for row in rows)


def _show(
    runs: Sequence[Run], rows: Sequence[Row], differences: Sequence[dict[str, Any]], notes: Sequence[str]
) -> None:
    """Shows a comparison in the terminal, in 80 columns."""
    console = Console()
    for run in runs:
        console.print(Text(f"{run.number}  {run.folder.name}  {run.settings_text}"))
    has_price, has_placebo = _has_price(rows), any(row.placebo_drop is not None for row in rows)
    headers = [
        "run",
        "model",
        "drop, points",
        *(["generator alone"] if has_placebo else []),
        "flips",
        "valid",
        "s/image",
    ]
    table = Table(*headers, *(["cost/image"] if has_price else []), box=SIMPLE, padding=(0, 1, 0, 0))
    for row in rows:
        figures = row.figures
        cells = [str(row.run.number), f"{row.model}\n{words.name_of(figures['metric'])}"]
        bounds = "too few sources" if words.is_too_few(figures) else words.interval(figures)
        cells.append("\n".join(filter(None, [words.points(figures.get("drop")), bounds])))
        cells += [words.points(row.placebo_drop)] if has_placebo else []
        cells += [words.percent(figures.get("flip_rate")), words.percent(row.costs["validity"])]
        cells.append(words.seconds(row.costs["seconds_per_valid_image"]))
        cells += [words.price(row.costs["cost_per_valid_image"])] if has_price else []
        table.add_row(*map(Text, cells))
    console.print(table)
    for note in notes:
        console.print(Text(note))
    compared = [row for row in differences if row.get("sources")]
    if compared:
        console.print(comparison_table("runs", compared, "Differences in points from run 1, paired"))
