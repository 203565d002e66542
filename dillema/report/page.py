"""The page about a run."""

from typing import TYPE_CHECKING, Any

from ..files import write_atomically
from ..passwords import hide_passwords
from ..run_folder import PREVIEW, RunFolder, is_checked
from ..task import get_task
from . import costs, gallery, plots, validity, words
from .confusion import write_confusion_matrices
from .origin import licence_rows, read_origin

if TYPE_CHECKING:
    from jinja2 import Environment


def write_page(folder: RunFolder) -> None:
    """Writes report.html and the confusion matrices into a run folder."""
    results = folder.results
    predictions = folder.all_predictions()
    shown = gallery.choose_images(folder, predictions)
    price = costs.price_per_hour(folder)
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            results=results,
            checked=is_checked(results),
            task=get_task(results["task"]),
            failures=folder.failures(),
            title=f"{', '.join(results['models']) or 'Counterfactuals'} on {results['dataset']}",
            name=results["name"],
            gallery=gallery.build_gallery(shown, folder),
            examples=_find_examples(shown, folder),
            images_left=folder.count_generated() - len(shown),
            rejections=validity.count_rejections(folder),
            rejected_examples=gallery.find_rejected(folder),
            rare_values=validity.find_rare_values(folder),
            confusion=write_confusion_matrices(folder, predictions),
            costs=costs.summarise_costs(results, price),
            price=price,
            origin=read_origin(folder),
        )
    )
    write_atomically(folder.path / "report.html", page)


def write_failed(folder: RunFolder, message: str, fetch: str = "") -> None:
    """Writes report.html into the folder of a run that ended with an error.

    `fetch` is the command that fetches the weights which the run lacks; "" if it lacks none.
    """
    page = (
        environment()
        .get_template("failed.html.j2")
        .render(
            name=folder.name,
            lines=hide_passwords(message).splitlines(),
            fetch=hide_passwords(fetch),
            images=folder.count_generated(),
            checked=bool(folder.settings.config.get("validity", True)),
            failures=folder.failures(),
            origin=read_origin(folder),
        )
    )
    write_atomically(folder.path / "report.html", page)
    (folder.path / PREVIEW).unlink(missing_ok=True)


def environment() -> "Environment":
    """Returns what renders the templates of this package; texts are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("dillema", "report")
    pages = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.globals.update(
        plots=plots, words=words, licence_rows=licence_rows, describe_unjudged=validity.describe_unjudged
    )
    return pages


def _find_examples(
    shown: list[gallery.ShownImage], folder: RunFolder
) -> dict[str, list[dict[str, Any] | None]]:
    """Returns for each model the pictures of its worst conditions; no image stands for two of them."""
    examples = {}
    for model, figures in folder.results["models"].items():
        used: set[str] = set()
        examples[model] = [
            gallery.find_example(shown, model, row, folder, used) for row in words.worst_conditions(figures)
        ]
    return examples
