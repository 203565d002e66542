"""Shows the figures of a finished run in the terminal."""

import logging
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..report import validity, words
from ..run_folder import RunFolder, is_checked

log = logging.getLogger(__name__)


def show(folder: RunFolder) -> None:
    """Shows the figures of a run and the path of its folder."""
    results, console = folder.results, Console()
    checked = is_checked(results)
    counts = ", ".join(
        f"{count} {name}" for name, count in results["counts"].items() if checked or name != "valid"
    )
    console.print(f"{results['dataset']}: {counts}", highlight=False)
    for sentence in validity.describe_abstentions(folder):
        log.warning("%s", sentence)
    for model, model_figures in results["models"].items():
        _show_model(console, model, model_figures, checked, results["counts"].get("unjudged", 0))
    if not results["models"]:
        log.info("%s", words.NO_MODEL)
    if results["comparisons"]:
        console.print(comparison_table("models", results["comparisons"], "Differences in points, paired"))
    log.info("Folder:  %s (open report.html)", folder.path.absolute())


def _show_model(
    console: Console, model: str, model_figures: dict[str, Any], checked: bool, unjudged: int
) -> None:
    """Shows the figures of a model, and what they mean."""
    for title, part in words.parts(model_figures):
        table = Table(
            *("metric", "original", "counterfactual", "drop, points", "95 % interval"),
            title=Text(f"{model}: {title}"),
            title_justify="left",
        )
        for name, original in part.get("original", {}).items():
            is_main = name == part["metric"]
            drop = words.points(part["drop"]) if is_main else ""
            interval = words.interval(part) if is_main else ""
            changed = words.percent(part["counterfactual"][name])
            table.add_row(words.format_metric_name(name), words.percent(original), changed, drop, interval)
        _add_placebo(table, part)
        console.print(table)
    for sentence in words.verdict(model, model_figures, checked, unjudged):
        log.info("%s", sentence)
    if worst := words.worst_in_words(model_figures):
        log.info("Worst: %s", worst)


def _add_placebo(table: Table, part: words.Figures) -> None:
    """Adds what the generator alone does to a table of figures."""
    placebo = part.get("placebo")
    if placebo:
        sides = [words.percent(placebo[side]) for side in ("original", "placebo")]
        table.add_section()
        name = f"{words.format_metric_name(part['metric'])}, nothing changed: the generator alone"
        table.add_row(name, *sides, words.points(placebo["drop"]), words.interval(placebo))


def comparison_table(header: str, rows: list[dict[str, Any]], title: str) -> Table:
    """Returns a table of `statistics.comparisons`, in which `a` and `b` are names; it fits 80 columns."""
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column(header, overflow="fold")
    for name in ("originals", "counter-\nfactuals", "drop,\n95 % interval", "p"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        cells = [f"{row['a']} minus {row['b']}\n{words.shared(row)}"]
        if row["sources"] and words.is_too_few(row):
            cells[0] += f"\n{words.too_few(row)}"
        elif row["sources"]:
            sides = [row[side]["difference"] for side in ("original", "counterfactual", "drop")]
            cells += [words.points(difference) for difference in sides]
            bounds = words.interval(row["drop"])
            cells[-1] += f"\n{bounds}" if bounds else ""
            cells.append(words.p_value(row["drop"]["p_adjusted"]))
        table.add_row(*map(Text, cells))
    return table
