"""The job that applies other thresholds to a finished run."""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .. import predictions
from .. import report as page
from ..config import build
from ..context import JobContext
from ..errors import UserError
from ..run_folder import COUNTED_IMAGES, FAILURES, METADATA, PREDICTIONS, RunFolder, place_image
from ..run_writer import write_card
from ..steps.verdict import verdict
from ..store import link, write_atomically
from ..types import Verdict
from .figures import figures
from .report import open_run
from .run import point_latest
from .summary import show

log = logging.getLogger(__name__)

LINKED = ("generated", "placebo", "originals", "controls", "report")


def judge(context: JobContext) -> RunFolder:
    """Returns a new run folder: a finished run with the verdicts of other thresholds, or of fewer gates.

    Needs no data, models or store. The gates and thresholds are those of the run, changed by what is given
    here. Raises a UserError for a gate whose scores the run does not have.
    """
    judged = open_run(context)
    gates = [build(block) for block in choose_gates(judged, context).values()]
    measured = predictions.score_names(judged.predictions_file)
    for gate in gates:
        if not any(name.partition(".")[0] == gate.name for name in measured):
            raise UserError(
                f"validity={gate.name}: {judged.path} has no scores of this gate; it has those of "
                f"{', '.join(sorted({name.partition('.')[0] for name in measured})) or 'none'}"
            )
    verdict_of = partial(verdict, gates)
    _copy(judged.path, context.folder)
    for part in ("generated", "placebo"):
        _judge_images(judged.path / part, context.folder / part, verdict_of)
    write_card(context.folder, judged.labels)
    predictions.judge(judged.predictions_file, context.folder / PREDICTIONS, verdict_of)
    folder = RunFolder(context.folder)
    names = [gate.name for gate in gates]
    valid = sum(image.verdict.valid for image in folder.generated())
    kept = {
        key: value for key, value in judged.results.items() if key not in ("version", "models", "comparisons")
    }
    kept |= {
        "gates": names,
        "counts": judged.results["counts"] | {"valid": valid},
        "judged": str(judged.path),
    }
    kept |= {"distance": None, "name": context.name}  # the distance is that of other images
    folder.write_results(kept | figures(folder, kept, judged.models))
    page.write(folder)
    show(folder)
    point_latest(context.folder)
    return folder


def choose_gates(judged: RunFolder, context: JobContext) -> Mapping[str, DictConfig]:
    """Returns the settings of the gates.

    Those of the run, less gates that are not asked for, plus what is given.
    """
    earlier = judged.settings.config.get("validity") or {}
    given: Mapping[str, DictConfig] = context.cfg.validity or {}
    overrides = [override.lstrip("+~") for override in context.overrides]
    is_subset = any(override.startswith("validity=") for override in overrides)
    names = list(given) if is_subset else list(earlier) or list(given)
    gates = {}
    for name in names:
        block = OmegaConf.create(earlier[name] if name in earlier else given[name])
        for override in overrides:
            path = override.partition("=")[0].split(".")
            if path[:2] == ["validity", name] and len(path) > 2 and name in given:
                OmegaConf.update(block, ".".join(path[2:]), OmegaConf.select(given[name], ".".join(path[2:])))
        gates[name] = block
    return gates


def _copy(source: Path, target: Path) -> None:
    """Gives the files of a run a second name in another folder, but for those that the verdicts change."""
    for name in LINKED:
        shutil.rmtree(target / name, ignore_errors=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, copy_function=_link_unless_metadata)
    if (source / FAILURES).exists():
        shutil.copy(source / FAILURES, target / FAILURES)


def _link_unless_metadata(source: str, target: str) -> None:
    if os.path.basename(source) != METADATA:  # noqa: PTH119  # copytree hands over text
        link(Path(source), Path(target))


def _judge_images(source: Path, target: Path, verdict_of: Any) -> None:
    """Writes metadata.jsonl with new verdicts, and moves the images whose verdict has changed."""
    lines = []
    with (source / METADATA).open(encoding="utf-8") as rows:
        for line in rows:
            row = json.loads(line)
            judged: Verdict = verdict_of(row["scores"] or {})
            row |= {"valid": judged.valid, "reasons": list(judged.reasons), "checked": judged.checked}
            earlier = target / row["file_name"]
            row["file_name"] = place_image(row["file_name"].partition("/")[2], judged)
            (target / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
            earlier.replace(target / row["file_name"])
            lines.append(json.dumps(row) + "\n")
    write_atomically(target / METADATA, "".join(lines))
    for folder in (target / COUNTED_IMAGES).iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # torchvision refuses a class folder without images
