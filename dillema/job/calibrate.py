"""The job that learns the thresholds of gates from the answers of raters."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ..backend import Gate
from ..config import build
from ..context import JobContext
from ..fields import Share
from ..files import write_atomically
from ..report.calibration import format_interval, write_calibration
from ..review.agreement import check_raters
from ..review.answers import Answer, AnswerStore, read_csv
from ..review.calibration import BOTH, Calibration, check_enough, round_down
from ..review.items import Review
from ..statistics.calibration import Fit, rates
from ..steps.verdict import verdict
from .judge import choose_gates
from .report import open_run

log = logging.getLogger(__name__)

THRESHOLDS, COMBINATION = "calibrated", "calibrated_combination"
HEADER = """\
# @package validity
# {title}, from {answers} answers of {raters} raters about {run}; wanted precision {wanted:g}.
"""


def calibrate(context: JobContext, labels: str | None, precision: Share) -> dict[str, Any]:
    """Finds the thresholds at which images of a run have a precision; returns the figures.

    Writes calibration.json, calibration.html and the options `calibrated` and `calibrated_combination` of the
    group validity. Needs no data, models or store.

    Args:
        context: `run` names the run folder.
        labels: A CSV file of a review; null: the answers that the review of the run has.
        precision: The wanted share of good images among those that count.

    Raises a UserError for a run without a review, and for too few answers.
    """
    folder = open_run(context)
    review = Review.read(folder)
    answers = _trusted(review, _read(review, labels))
    check_enough(review, answers)
    blocks = choose_gates(folder, context)
    gates = [build(block) for block in blocks.values()]
    calibration = Calibration(review, answers, gates, precision, context.cfg.seed)
    rows = [calibration.calibrate(score) for score in calibration.measured]
    combined, model, probability = calibration.combine()
    thresholds = _with_thresholds(blocks, rows)
    scores_of_gate = Counter(score.gate for score in calibration.measured)
    results: dict[str, Any] = {
        "run": str(folder.path),
        "wanted": precision,
        "answers": len(answers),
        "raters": sorted({answer.rater for answer in answers}),
        "scores": rows,
        "gates": [calibration.rate_gate(gate) for gate in gates if scores_of_gate[gate.name] > 1],
        "combination": combined,
        "together": {},
    }
    if probability is not None:
        for name, chosen in (("run", blocks), (THRESHOLDS, thresholds)):
            judging = [build(block) for block in chosen.values()]
            results["together"][name] = _rate(calibration, judging, probability)
    write_atomically(context.folder / "calibration.json", json.dumps(results, indent=2))
    write_calibration(context.folder / "calibration.html", results)
    title = "Thresholds of each gate on its own"
    written = [_write_option(context.folder, THRESHOLDS, thresholds, title, results)]
    if model is not None and combined["threshold"] is not None:
        block = _combination(model, combined)
        title = "A logistic combination of the scores in the place of the gates' own thresholds"
        combined_gates = {**blocks, "combination": OmegaConf.create(block)}
        written.append(_write_option(context.folder, COMBINATION, combined_gates, title, results))
    _show(results)
    log.info("Page: %s", context.folder / "calibration.html")
    for option in written:
        log.info(
            "Apply it: python -m dillema job=judge run=%s 'hydra.searchpath=[file://%s]' validity=%s",
            folder.path,
            option.parent.parent.absolute(),
            option.stem,
        )
    return results


def _read(review: Review, labels: str | None) -> list[Answer]:
    if labels is not None:
        return read_csv(Path(labels).expanduser(), review)
    return AnswerStore.of(review).all()


def _trusted(review: Review, answers: Sequence[Answer]) -> list[Answer]:
    """Returns the answers of the raters who pass the controls."""
    raters = check_raters(review, answers)
    for rater, row in raters.items():
        if row["failed"]:
            missed = f"{row['missed']} of {row['known']} known answers missed"
            log.warning("%s fails the controls (%s): these answers are left out", rater, missed)
    return [answer for answer in answers if not raters[answer.rater]["failed"]]


def _rate(calibration: Calibration, gates: Sequence[Gate], probability: np.ndarray) -> dict[str, Any]:
    """Returns which share of the images of a run passes gates, and the precision and recall of that."""
    images = (calibration.images[row] for row in calibration.population)
    valid = np.array([verdict(gates, image.verdict.scores).valid for image in images])
    return {"passed": float(valid.mean())} | rates(valid, probability)


def _with_thresholds(blocks: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, DictConfig]:
    """Returns the settings of the gates with the thresholds that were found."""
    changed = {name: OmegaConf.create(block) for name, block in blocks.items()}
    for row in rows:
        if row["threshold"] is not None:
            _, gate, setting = row["setting"].split(".", 2)
            OmegaConf.update(changed[gate], setting, round_down(row["threshold"]), force_add=True)
    return changed


def _combination(model: Fit, row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the gate that combines the scores."""

    def by_score(values: np.ndarray) -> dict[str, float]:
        return dict(zip(row["weights"], map(float, values), strict=True))

    return {
        "_target_": "dillema.validity.combination.CombinationGate",
        "name": "combination",
        "weights": row["weights"],
        "means": by_score(model.mean),
        "scales": by_score(model.scale),
        "intercept": float(model.coefficients[0, 0]),
        "min_probability": round_down(row["threshold"]),
        "batch_size": 256,
    }


def _write_option(
    folder: Path, name: str, blocks: Mapping[str, Any], title: str, results: Mapping[str, Any]
) -> Path:
    """Writes an option of the group validity; returns its path."""
    path = folder / "conf" / "validity" / f"{name}.yaml"
    raters, run = len(results["raters"]), results["run"].replace("\n", " ")
    header = HEADER.format(
        title=title, answers=results["answers"], raters=raters, run=run, wanted=results["wanted"]
    )
    write_atomically(path, header + OmegaConf.to_yaml(OmegaConf.create(dict(blocks))))
    return path


def _show(results: Mapping[str, Any]) -> None:
    """Shows the figures in the terminal."""
    table = Table("score", "speaks for", "threshold", "precision, %", "recall, %", box=SIMPLE)
    for row in [*results["scores"], results["combination"]]:
        if row["threshold"] is None:
            reason = "not reached" if "curve" in row else f"{row['images']} judged images, or equal answers"
            table.add_row(row["score"], row["about"], reason, "-", "-")
            continue
        rated = [format_interval(row[name], 100, 0) for name in ("precision", "recall")]
        bounds = {"mean": row["threshold"], "low": row["low"], "high": row["high"]}
        table.add_row(row["score"], row["about"], format_interval(bounds, 1, 3), *rated)
    judged = [(f"{row['gate']} as it is", row) for row in results["gates"]]
    for name, words in (("run", "the run's gates as they are"), (THRESHOLDS, "these thresholds together")):
        if figures := results["together"].get(name):
            judged.append((words, figures))
    for words, figures in judged:
        rated = [
            format_interval(figures[figure], 100, 0) if figure in figures else "-"
            for figure in ("precision", "recall")
        ]
        table.add_row(words, figures.get("about", BOTH), "", *rated)
    Console().print(table)
    for row in [*results["scores"], results["combination"]]:
        if not row.get("fits", True):
            log.warning(
                "%s: what raters said above the threshold differs from the logistic curve; look at its plot "
                "before you use it",
                row["score"],
            )
