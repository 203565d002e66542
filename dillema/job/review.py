"""The job in which people judge the images of a finished run."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ..context import JobContext
from ..errors import UserError
from ..fields import Port, Positive, Share
from ..files import write_atomically
from ..review.agreement import MAX_FAILED_CONTROLS, summarise_answers
from ..review.answers import AnswerStore, read_csv, write_csv
from ..review.items import FOLDER, ITEMS, Review
from ..review.page import render_page
from .report import open_run

log = logging.getLogger(__name__)

AGREEMENT = "agreement.json"


def review(
    context: JobContext,
    count: Positive,
    control_share: Share,
    port: Port,
    html: str | None,
    import_csv: Sequence[str],
    export_csv: str | None,
) -> Review:
    """Serves the page of a review, or writes it, its answers or its figures; returns the review.

    Args:
        context: `run` names the run folder; the review is kept in its folder `review/`.
        count: How many images are judged, at most; holds when the review starts.
        control_share: The share of them that are controls; holds when the review starts.
        port: Of the page; 0 takes a free one.
        html: Where to write a page for a rater without the server.
        import_csv: CSV files of answers to add.
        export_csv: Where to write the answers.

    With `html`, `import_csv` or `export_csv` nothing is served.
    """
    folder = open_run(context)
    is_new = not (folder.path / FOLDER / ITEMS).exists()
    chosen = Review.open(folder, count, control_share, context.cfg.seed)
    store = AnswerStore.of(chosen)
    log.info(
        "%d images to judge, %d answers so far%s",
        len(chosen.items),
        len(store.all()),
        "" if is_new else "; these images were chosen when the review began (job.count, job.control_share)",
    )
    # all files are read before anything is added: a wrong one changes nothing
    added = [answer for name in import_csv for answer in read_csv(Path(name).expanduser(), chosen)]
    if import_csv:
        log.info("%d answers added from %s", store.put(added), ", ".join(import_csv))
    if html:
        path = Path(html).expanduser()
        write_atomically(path, render_page(chosen, embedded=True))
        log.info("Page for one rater: %s, %.1f MB", path, path.stat().st_size / 1e6)
    if export_csv:
        write_csv(Path(export_csv).expanduser(), chosen, store.all())
        log.info("Answers: %s", export_csv)
    if not (html or import_csv or export_csv):
        _serve(chosen, port, context.cfg.seed)
    _summarise(chosen, context.cfg.seed)
    return chosen


def _serve(review: Review, port: int, seed: int) -> None:
    """Serves the page until the process is stopped, then shows the figures."""
    try:
        from ..review.server import serve

        serve(
            review, port, lambda address: log.info("Open %s in a browser; Ctrl-C ends the review.", address)
        )
    except ImportError as error:
        raise UserError(
            f"the page needs a package ({error}): pip install 'dillema[review]', or write one file with "
            "job.html=review.html"
        ) from error
    except KeyboardInterrupt:
        _summarise(review, seed)
        raise


def _summarise(review: Review, seed: int) -> None:
    """Writes agreement.json and shows the figures in the terminal."""
    answers = AnswerStore.of(review).all()
    if not answers:
        return
    figures = summarise_answers(review, answers, seed)
    write_atomically(review.path / AGREEMENT, json.dumps(figures, indent=2))
    console = Console()
    table = Table("question", "Fleiss' kappa", "images of several raters", box=SIMPLE)
    for question, row in figures["kappa"].items():
        table.add_row(question, format_kappa(row), str(row["images"]))
    console.print(table)
    if figures["pairs"]:
        table = Table("question", "raters", "Cohen's kappa", "images", box=SIMPLE)
        for row in figures["pairs"]:
            table.add_row(row["question"], f"{row['a']}, {row['b']}", format_kappa(row), str(row["images"]))
        console.print(table)
    table = Table("gate", "question", "agrees with people", "Cohen's kappa", "images", box=SIMPLE)
    for row in figures["gates"]:
        share = format_share(row, "agreement")
        table.add_row(row["gate"], row["question"], share, format_kappa(row), str(row["images"]))
    console.print(table)
    for rater, row in figures["raters"].items():
        controls = f"{row['missed']} of {row['known']} known answers missed"
        log.info("%s: %d images, %s", rater, row["answers"], controls)
        if row["failed"]:
            log.warning(
                "%s FAILS the controls (more than %.0f %% missed): calibration and the rows of the gates "
                "leave these answers out",
                rater,
                100 * MAX_FAILED_CONTROLS,
            )
    log.info("Figures: %s", review.path / AGREEMENT)


def format_kappa(row: Mapping[str, Any]) -> str:
    """Returns a kappa with its interval; "-" if it is not defined."""
    if row["kappa"] is None:
        return "-"
    bounds = "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{row['kappa']:.2f}{bounds}"


def format_share(row: Mapping[str, Any], name: str) -> str:
    """Returns a share in percent with its interval; "-" if there is none."""
    if row[name] is None:
        return "-"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{100 * row[name]:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
