"""The job that compares runs, and the callback that compares the runs of a sweep."""

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
from ..context import JobContext, flatten, format_value
from ..errors import UserError
from ..files import write_atomically
from ..overrides import gate_options
from ..predictions import Predictions
from ..report import costs, words
from ..report.page import environment
from ..run_folder import RESULTS, RunFolder, StoredImage, is_checked
from .ranking import RankedGenerator, rank_generators, ranking_table
from .summary import comparison_table

log = logging.getLogger(__name__)

FILE = "comparison.html"
DIFFERENT_IMAGES = (
    "The results are of different images. The differences from run 1 are on images, or else sources, that "
    "both runs have."
)


class Comparison(Callback):
    """Compares the runs of a sweep when the sweep is over."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Registers the comparison for the end of the process; Hydra calls no end hook if a run failed."""
        atexit.register(_compare_sweep, Path(config.hydra.sweep.dir).absolute())


@dataclass
class Run:
    """A run and its number on the page.

    Attributes:
        settings: The settings that differ between the runs.
    """

    number: int
    folder: RunFolder
    settings: dict[str, str]

    @cached_property
    def images_digest(self) -> str:
        """Returns a hash of all generated images."""
        return self._hash_images(self.folder.generated())

    @cached_property
    def counted_digest(self) -> str:
        """Returns a hash of the generated images that count."""
        return self._hash_images(image for image in self.folder.generated() if image.verdict.valid)

    @staticmethod
    def _hash_images(images: Iterable[StoredImage]) -> str:
        digest = hashlib.sha256()
        for image in images:
            digest.update(f"{image.id} {image.key}\n".encode())
        return digest.hexdigest()

    @property
    def settings_text(self) -> str:
        """Returns the settings in one line."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


@dataclass
class Row:
    """A model under test in a run: its figures, and the costs of the run's images."""

    run: Run
    model: str
    figures: Mapping[str, Any]
    costs: Mapping[str, float | None]

    @property
    def checked(self) -> bool:
        """Returns whether any gate judged the images."""
        return is_checked(self.run.folder.results)

    @property
    def is_too_few(self) -> bool:
        """Returns whether there are too few sources for a reliable figure."""
        return words.is_too_few(self.figures)

    @property
    def placebo_drop(self) -> float | None:
        """Returns the drop that the generator alone causes; None for a run without placebos."""
        drop: float | None = (self.figures.get("placebo") or {}).get("drop")
        return drop


def compare(context: JobContext, runs: Sequence[str]) -> None:
    """Shows a comparison of runs in the terminal, and writes comparison.html to the folder of the job.

    Args:
        context: Its folder receives the page.
        runs: The folders of runs or of sweeps.

    Raises a UserError if there is no folder, or if a folder holds no run.
    """
    compare_folders(_list_folders(runs), context.folder)


def check_inputs(cfg: DictConfig) -> None:
    """Raises a UserError if there is no folder, or if a folder holds no run."""
    _list_folders(cfg.job.runs)


def _list_folders(runs: Sequence[str]) -> list[Path]:
    """Returns the folders of runs, also those in the folders of sweeps."""
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
                "nor a folder or a sweep in it that has one"
            )
        folders += inside
    return folders


def compare_folders(folders: Sequence[Path], target: Path) -> None:
    """Shows a comparison of runs in the terminal, and writes comparison.html to a folder."""
    # a link such as outputs/latest will mean another run soon
    opened = [RunFolder.open(folder.resolve()) for folder in folders]
    settings = list_differences([_read_settings(folder) for folder in opened])
    runs = [Run(i, folder, own) for i, (folder, own) in enumerate(zip(opened, settings, strict=True), 1)]
    rows = _list_rows(runs)
    notes, ranked = find_settings_without_effect(runs), rank_generators(rows)
    if len({run.counted_digest for run in runs if run.folder.count_generated()}) > 1:
        notes.append(DIFFERENT_IMAGES)
    differences = _compare_with_first(rows)
    _write_page(runs, rows, differences, notes, ranked, target)
    _show(runs, rows, differences, notes)
    if ranked:
        Console().print(ranking_table(ranked))
    log.info("Comparison: %s", target / FILE)


def list_differences(
    settings: Iterable[tuple[Mapping[str, Any], Mapping[str, Any], set[str]]],
) -> list[dict[str, str]]:
    """Returns for each run the settings that differ between runs: first options of groups, then values.

    The settings of a run are three: the options of the groups, the values by their dotted names, and the
    names given on the command line. Where the options of a group differ, its values are left out, except
    those given on the command line.
    """
    runs = list(settings)
    differing_options = _find_differing([options for options, _, _ in runs])
    overridden = set().union(*(names for _, _, names in runs))
    differing_values = [
        name
        for name in _find_differing([values for _, values, _ in runs])
        if name.partition(".")[0] not in differing_options or name in overridden
    ]
    return [
        {name: str(options.get(name, "-")) for name in differing_options}
        | {name: format_value(values.get(name, "-")) for name in differing_values}
        for options, values, _ in runs
    ]


def find_settings_without_effect(runs: Sequence[Run]) -> list[str]:
    """Returns a sentence for each setting that changes no generated image, no verdict and no figure."""
    equal_by_setting: dict[str, list[bool]] = {}
    for first, second in combinations(runs, 2):
        names = [name for name in first.settings if first.settings[name] != second.settings[name]]
        if len(names) == 1 and first.folder.count_generated():
            is_equal = first.images_digest == second.images_digest and all(
                first.folder.results[part] == second.folder.results[part] for part in ("counts", "models")
            )
            equal_by_setting.setdefault(names[0], []).append(is_equal)
    return [
        f"{name} has no effect here: same images." for name, equal in equal_by_setting.items() if all(equal)
    ]


def _find_differing(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names whose values differ between runs."""
    names = dict.fromkeys(name for run in runs for name in run)
    return [name for name in names if len({str(run.get(name, "-")) for run in runs}) > 1]


def _find_runs(folder: Path) -> list[Path]:
    """Returns the folders of runs: a folder itself, or those in it, also in the sweeps of a day in it."""
    for pattern in (RESULTS, f"*/{RESULTS}", f"*/*/{RESULTS}"):
        if found := sorted(path.parent for path in folder.glob(pattern)):
            return found
    return []


def _compare_sweep(sweep: Path) -> None:
    folders = _find_runs(sweep)
    if folders:
        compare_folders(folders, sweep)


def _read_settings(folder: RunFolder) -> tuple[Mapping[str, Any], Mapping[str, Any], set[str]]:
    """Returns the settings of a run in the form of `list_differences`; empty without a configuration."""
    settings = folder.settings
    overridden = {override.lstrip("+~").partition("=")[0] for override in settings.overrides}
    values = dict(flatten(settings.config))
    values.pop("run", None)  # which run was judged again: no setting of its images
    options = dict(settings.options)
    if settings.config:  # Hydra notes no choice for the gates of the default configuration
        gates = gate_options(folder.path) or ["none"]
        options["validity"] = gates[0] if len(gates) == 1 else format_value(gates)
    return options, values, overridden


def _list_rows(runs: Sequence[Run]) -> list[Row]:
    """Returns a row for each model of each run."""
    rows = []
    for run in runs:
        results = run.folder.results
        summary = costs.summarise_costs(results, costs.price_per_hour(run.folder))
        rows += [Row(run, model, figures, summary) for model, figures in results["models"].items()]
    return rows


def _find_worst(rows: Sequence[Row]) -> list[Row]:
    """Returns the row with the largest drop, of those of enough sources if there are any."""

    def drop(row: Row) -> float:
        return -2 if row.figures.get("drop") is None else row.figures["drop"]  # no drop: last

    enough = [row for row in rows if not row.is_too_few]
    return sorted(enough or rows, key=drop, reverse=True)[:1]


def _compare_with_first(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns the difference of each model of each run from the same model in the first run.

    A model that the first run does not have is compared with its first model. `reason` says why two models
    cannot be compared.
    """
    base = [row for row in rows if row.run.number == 1]
    one_model = len({row.model for row in rows}) == 1
    predictions = {row.model: _read_predictions(row) for row in base}
    table = []
    for row in rows if base else ():
        same_model = next((first for first in base if first.model == row.model), base[0])
        reference = base[0] if same_model is row else same_model
        if reference is row:
            continue
        names = {"a": _name_row(row, one_model), "b": _name_row(reference, one_model)}
        table.append(names | _compare_rows(row, reference, predictions[reference.model]))
    return statistics.comparisons(table)


def _compare_rows(row: Row, reference: Row, reference_predictions: Predictions | None) -> dict[str, Any]:
    predictions = _read_predictions(row)
    if predictions is None or reference_predictions is None:
        run_number = (row if predictions is None else reference).run.number
        return {"reason": f"run {run_number} has no predictions.parquet of this version"}
    if row.run.folder.labels != reference.run.folder.labels:
        data = f"{row.run.folder.labels.name} and {reference.run.folder.labels.name}"
        return {"reason": f"they are of different data ({data})"}
    return statistics.compare(predictions, reference_predictions, 0)


def _name_row(row: Row, one_model: bool) -> str:
    return f"run {row.run.number}" if one_model else f"run {row.run.number}: {row.model}"


def _read_predictions(row: Row) -> Predictions | None:
    try:
        return row.run.folder.predictions(row.model)
    except UserError:
        return None


def _heat_rows(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Returns the drops of each model by the values of two settings, if exactly two settings differ."""
    names = list(rows[0].run.settings) if rows else []
    if len(names) != 2 or any(len({row.run.settings[name] for row in rows}) < 2 for name in names):
        return {}
    cells_by_model: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        values = [row.run.settings[name] for name in names]
        cell = {"attributes": names, "to": values, "drop": row.figures.get("drop"), "run": row.run.number}
        cells_by_model.setdefault(row.model, []).append(cell)
    return cells_by_model


def _write_page(
    runs: Sequence[Run],
    rows: Sequence[Row],
    differences: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    ranked: Sequence[RankedGenerator],
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
            worst=_find_worst(rows),
            bounds=[{"value": bound} for bound in bounds],
            differences=differences,
            notes=notes,
            ranked=ranked,
            heat_rows=_heat_rows(rows),
            links={run.number: _link_to_report(run, target) for run in runs},
            has_price=_has_price(rows),
            has_flips=_has_flips(rows),
            has_placebo=any(row.placebo_drop is not None for row in rows),
        )
    )
    write_atomically(target / FILE, page)


def _link_to_report(run: Run, target: Path) -> str:
    """Returns the address of a run's page relative to the folder of the comparison; "" without a page."""
    page = run.folder.path.absolute() / "report.html"
    return quote(os.path.relpath(page, target.resolve())) if page.exists() else ""


def _has_price(rows: Sequence[Row]) -> bool:
    return any(row.costs["cost_per_valid_image"] is not None for row in rows)


def _has_flips(rows: Sequence[Row]) -> bool:
    return any(row.figures.get("flip_rate") is not None for row in rows)


def _show(
    runs: Sequence[Run], rows: Sequence[Row], differences: Sequence[dict[str, Any]], notes: Sequence[str]
) -> None:
    """Shows a comparison in the terminal, in 80 columns."""
    console = Console()
    for run in runs:
        console.print(Text(f"{run.number}  {run.folder.name}  {run.settings_text}"))
    has_price, has_flips = _has_price(rows), _has_flips(rows)
    has_placebo = any(row.placebo_drop is not None for row in rows)
    headers = [
        "run",
        "model",
        "drop, points",
        *(["generator alone"] if has_placebo else []),
        *(["flips"] if has_flips else []),
        "valid",
        "s/image",
    ]
    table = Table(*headers, *(["cost/image"] if has_price else []), box=SIMPLE, padding=(0, 1, 0, 0))
    for row in rows:
        figures = row.figures
        cells = [str(row.run.number), f"{row.model}\n{words.format_metric_name(figures['metric'])}"]
        few = words.too_few(figures).partition(" to be sure")[0]
        bounds = few if words.is_too_few(figures) else words.interval(figures)
        cells.append("\n".join(filter(None, [words.points(figures.get("drop")), bounds])))
        cells += [words.points(row.placebo_drop)] if has_placebo else []
        cells += [words.percent(figures.get("flip_rate"))] if has_flips else []
        cells.append(words.percent(row.costs["validity"]))
        cells.append(words.seconds(row.costs["seconds_per_valid_image"]))
        cells += [words.price(row.costs["cost_per_valid_image"])] if has_price else []
        table.add_row(*map(Text, cells))
    console.print(table)
    for sentence in notes:
        console.print(Text(sentence))
    compared = [row for row in differences if row.get("sources")]
    if compared:
        console.print(comparison_table("runs", compared, "Differences in points from run 1, paired"))
