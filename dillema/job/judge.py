"""The job that applies other thresholds to a finished run."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from .. import predictions
from .. import report as page
from ..config import build
from ..context import JobContext
from ..errors import UserError
from ..overrides import gate_options, split_options
from ..run_folder import COUNTED_IMAGES, FAILURES, METADATA, PREDICTIONS, RunFolder, place_image
from ..run_writer import write_card
from ..steps.verdict import verdict
from ..store import link, write_atomically
from ..types import Verdict
from .figures import compute_figures
from .report import check_inputs, open_run
from .run import point_latest
from .summary import show

__all__ = ["check_inputs", "choose_gates", "judge"]

log = logging.getLogger(__name__)

LINKED = ("generated", "placebo", "originals", "controls", "report")


def judge(context: JobContext) -> RunFolder:
    """Copies a finished run with the verdicts of other thresholds or fewer gates; returns the new folder.

    Needs no data, models or store. The gates and thresholds are those of the run, except where the
    configuration gives others. Raises a UserError for a gate whose scores the run does not have.
    """
    source = open_run(context)
    gates = [build(block) for block in choose_gates(source, context).values()]
    gates_with_scores = {name.partition(".")[0] for name in predictions.score_names(source.predictions_file)}
    for gate in gates:
        if lacking := set(getattr(gate, "combines", (gate.name,))) - gates_with_scores:
            raise UserError(
                f"validity={gate.name}: {source.path} has no scores of the gate {min(lacking)}; it has those "
                f"of {', '.join(sorted(gates_with_scores)) or 'none'}"
            )
    judge_scores = partial(verdict, gates)
    _copy(source.path, context.folder)
    for part in ("generated", "placebo"):
        _judge_images(source.path / part, context.folder / part, judge_scores)
    write_card(context.folder, source.labels)
    predictions.judge(source.predictions_file, context.folder / PREDICTIONS, judge_scores)
    folder = RunFolder(context.folder)
    names = [gate.name for gate in gates]
    valid = sum(image.verdict.valid for image in folder.generated())
    results = {
        key: value for key, value in source.results.items() if key not in ("version", "models", "comparisons")
    }
    results |= {
        "gates": names,
        "counts": source.results["counts"] | {"valid": valid},
        "judged": str(source.path),
    }
    results |= {"distance": None, "name": context.name}  # the old distance is of other valid images
    folder.write_results(results | compute_figures(folder, results, source.models))
    page.write(folder)
    show(folder)
    point_latest(context.folder)
    return folder


def choose_gates(source: RunFolder, context: JobContext) -> Mapping[str, DictConfig]:
    """Returns the settings of the gates by name.

    They are the gates of the run (with `validity=`, those of them that it names) with its settings, except
    for the settings that the command line gives. With an option in `validity=` that the run did not use, the
    gates and their settings are those of the options.
    """
    earlier = source.settings.config.get("validity") or {}
    configured: Mapping[str, DictConfig] = context.cfg.validity or {}
    overrides = [override.lstrip("+~") for override in context.overrides]
    named = [override.partition("=")[2] for override in overrides if override.startswith("validity=")]
    options = split_options(named[-1]) if named else []
    if not earlier or not {*options, "none"} <= {*gate_options(source.path), "none"}:
        return configured
    gates = {}
    for name in configured if named else earlier:
        block = OmegaConf.create(earlier[name] if name in earlier else configured[name])
        for override in overrides:
            path = override.partition("=")[0].split(".")
            if path[:2] == ["validity", name] and len(path) > 2 and name in configured:
                setting = ".".join(path[2:])
                OmegaConf.update(block, setting, OmegaConf.select(configured[name], setting))
        gates[name] = block
    return gates


def _copy(source: Path, target: Path) -> None:
    """Links the files of a run into another folder, except those that the verdicts change."""
    for name in LINKED:
        shutil.rmtree(target / name, ignore_errors=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, copy_function=_link_unless_metadata)
    if (source / FAILURES).exists():
        shutil.copy(source / FAILURES, target / FAILURES)


def _link_unless_metadata(source: str, target: str) -> None:
    if os.path.basename(source) != METADATA:  # noqa: PTH119  # copytree passes strings
        link(Path(source), Path(target))


def _judge_images(source: Path, target: Path, judge_scores: Callable[[Mapping[str, float]], Verdict]) -> None:
    """Writes metadata.jsonl with new verdicts, and moves the images whose verdict has changed."""
    lines = []
    with (source / METADATA).open(encoding="utf-8") as rows:
        for line in rows:
            row = json.loads(line)
            new = judge_scores(row["scores"] or {})
            row |= {"valid": new.valid, "reasons": list(new.reasons), "checked": new.checked}
            earlier = target / row["file_name"]
            row["file_name"] = place_image(row["file_name"].partition("/")[2], new)
            (target / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
            earlier.replace(target / row["file_name"])
            lines.append(json.dumps(row) + "\n")
    write_atomically(target / METADATA, "".join(lines))
    for folder in (target / COUNTED_IMAGES).iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # torchvision refuses a class folder without images
