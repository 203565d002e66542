"""The page that a person reads."""

from pathlib import Path

from ..pipeline import Run
from ..types import Dataset
from . import gallery, origin, plots, words
from .words import percent, verdict

__all__ = ["percent", "verdict", "words", "write"]


def write(run: Run, dataset: Dataset, folder: Path) -> None:
    """Writes report.html, one file that needs no other up to gallery.EMBEDDED bytes of images; the images beyond that lie beside it in report/."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("dillema", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.globals.update(plots=plots, words=words)
    shown = gallery.chosen(run, dataset)
    page = pages.get_template("report.html.j2").render(
        results=run.results,
        failures=run.failures,
        title=f"{', '.join(run.results['models']) or 'Counterfactuals'} on {run.results['dataset']}",
        name=f"{folder.parent.name} {folder.name}",
        gallery=gallery.of(shown, dataset, folder),
        example=lambda model, row: gallery.example(shown, model, row),
        change=gallery.CHANGE,
        left=len(run.pairs) - len(shown),
        origin=origin.of(folder),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
