"""Copies a finished run with the verdicts of other gates or thresholds."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .. import new_verdicts
from .. import report as page
from ..config import build
from ..context import JobContext, flatten
from ..errors import UserError
from ..files import list_files, write_atomically
from ..gate_check import refuse_unknown_classes
from ..passwords import hide_passwords_in_files
from ..report import words
from ..run_folder import (
    COUNTED_IMAGES,
    FAILURES,
    METADATA,
    PREDICTIONS,
    RunFolder,
    place_image,
    read_metadata,
)
from ..run_writer import write_card
from ..steps.results import count_verdicts
from ..steps.verdict import score_names, verdict
from ..types import Verdict
from .figures import compute_figures
from .links import point_latest
from .summary import show

log = logging.getLogger(__name__)

SHOWN = 8  # names of images whose verdict has changed
LINKED = ("generated", "placebo", "originals", "controls", "report")

Scores = Mapping[str, Mapping[str, float]]
"""New scores by "<gate>.<score>", of each image by its id."""


def judge_again(
    source: RunFolder,
    context: JobContext,
    blocks: Mapping[str, DictConfig],
    *,
    scores: Scores | None = None,
    failures: Sequence[Mapping[str, str]] = (),
    results: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Copies a finished run into the folder of the job, with new verdicts, figures and page.

    Args:
        source: The finished run.
        context: Its folder receives the copy.
        blocks: The settings of the gates by name.
        scores: Scores that the run does not have, or that replace those that it has.
        failures: Items that failed since.
        results: New entries of results.json.
    """
    gates = [build(block) for block in blocks.values()]
    refuse_unknown_classes(gates, source.labels)
    new_scores = scores or {}
    new_gates = {name.partition(".")[0] for row in new_scores.values() for name in row}
    new_names = score_names([gate for gate in gates if gate.name in new_gates], source.labels.classes)

    verdicts: dict[str, Verdict] = {}

    def judge_image(image: str, earlier: Mapping[str, float]) -> Verdict:
        if image not in verdicts:  # asked for twice: for metadata.jsonl and for predictions.parquet
            kept = {name: value for name, value in earlier.items() if name.partition(".")[0] not in new_gates}
            verdicts[image] = verdict(gates, kept | dict(new_scores.get(image, {})))
        return verdicts[image]

    folder = RunFolder(context.folder)
    with _link_files(source.path, context.folder) as wait_for_files:
        _write_settings(source, context, blocks)
        _add_failures(source, context.folder, failures)
        judged = _judge_images(source, folder, "generated", judge_image, wait_for_files)
        _judge_images(source, folder, "placebo", judge_image, wait_for_files)
    valid, unjudged = count_verdicts(gates, [verdicts[image] for image in judged])
    write_card(folder, source.labels)
    new_verdicts.judge(source.predictions_file, context.folder / PREDICTIONS, judge_image, new_names)
    description = {
        key: value for key, value in source.results.items() if key not in ("version", "models", "comparisons")
    }
    description |= {"gates": [gate.name for gate in gates], "judged": str(source.path), "name": context.name}
    description |= {"distance": None}  # the old distance is of other valid images
    description |= results or {}
    failed = len(source.failures()) + len(failures)
    counts = {name: count for name, count in description["counts"].items() if name != "unjudged"}
    counts |= {"valid": valid, "failed": failed} | ({"unjudged": unjudged} if unjudged else {})
    description["counts"] = counts
    folder.write_results(description | compute_figures(folder, description, source.models))
    page.write(folder)
    show(folder)
    for line in (*_describe_settings(source, blocks), *_describe_verdicts(judged)):
        log.info("%s", line)
    point_latest(context.folder)
    return folder


def _add_failures(source: RunFolder, target: Path, failures: Sequence[Mapping[str, str]]) -> None:
    lines = [json.dumps(failure) + "\n" for failure in (*source.failures(), *failures)]
    write_atomically(target / FAILURES, "".join(lines))


def _write_settings(source: RunFolder, context: JobContext, blocks: Mapping[str, DictConfig]) -> None:
    """Writes the settings of the run with those of its new gates, so that later jobs find them."""
    settings, hydra = source.settings, context.folder / ".hydra"
    if not settings.config:
        return
    hydra.mkdir(exist_ok=True)
    gates = {name: OmegaConf.to_container(block) for name, block in blocks.items()}
    own = {"validity": gates, "run": str(source.path), "name": context.cfg.get("name")}
    OmegaConf.save(OmegaConf.create({**settings.config, **own}), hydra / "config.yaml")
    choices = {group: option for group, option in settings.options.items() if group != "validity"}
    OmegaConf.save(OmegaConf.create({"hydra": {"runtime": {"choices": choices}}}), hydra / "hydra.yaml")
    OmegaConf.save(OmegaConf.create(list(context.overrides)), hydra / "overrides.yaml")
    hide_passwords_in_files(hydra.glob("*.yaml"))


@contextmanager
def _link_files(source: Path, target: Path) -> Iterator[Callable[[], None]]:
    """Links the files of a run into another folder while the block runs.

    Yields a function that waits until all are there. Raises a UserError for files that cannot be copied, and
    for a target that is the run itself, which would be emptied.
    """
    here, there = target.resolve(), source.resolve()
    if here == there or any(here.is_relative_to(there / name) for name in LINKED):
        raise UserError(f"hydra.run.dir={target} is of the run itself: name another folder")
    places = []
    try:
        for name in LINKED:
            shutil.rmtree(target / name, ignore_errors=True)
            if not (source / name).is_dir():
                continue
            for path, _, _ in os.walk(source / name, onerror=_refuse_folder, followlinks=True):
                place = target / Path(path).relative_to(source)
                place.mkdir(parents=True)
                places.append((path, str(place)))
    except OSError as error:
        raise UserError(f"{source} cannot be copied: {error}") from error
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("link_files.py")), METADATA]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stdin
        with suppress(BrokenPipeError):  # `wait` says why it has ended
            process.stdin.write(json.dumps(places))
            process.stdin.close()
        process.stdin = None

        def wait() -> None:
            if process.returncode is not None:
                return
            _, reason = process.communicate()
            if process.returncode:
                raise UserError(f"{source} cannot be copied: {reason.strip()[-500:]}")

        try:
            yield wait
        finally:
            process.kill()


def _refuse_folder(error: OSError) -> None:
    raise error


def _judge_images(
    source: RunFolder,
    folder: RunFolder,
    part: str,
    judge_image: Callable[[str, Mapping[str, float]], Verdict],
    wait_for_files: Callable[[], None],
) -> dict[str, tuple[bool, bool]]:
    """Writes metadata.jsonl with new verdicts, and moves the images whose verdict has changed.

    Returns for each image whether it was valid before and whether it is valid now.
    """
    target, moved = folder.path / part, []
    judged: dict[str, tuple[bool, bool]] = {}
    files = list_files(source.path / part)

    def judge_rows() -> Iterator[dict[str, Any]]:
        for row in read_metadata(source.path / part):
            image = row["file_name"].rpartition("/")[2].rpartition(".")[0]
            new = judge_image(image, row["scores"] or {})
            judged[image] = row["valid"] and row["checked"], new.valid and new.checked
            row |= {"scores": dict(new.scores) or None, "valid": new.valid}
            row |= {"reasons": list(new.reasons), "checked": new.checked}
            earlier = row["file_name"]
            if earlier not in files:
                raise UserError(
                    f"{source.path / part / METADATA} names {earlier}, which is not in {source.path / part}"
                )
            row["file_name"] = place_image(earlier.partition("/")[2], new)
            if row["file_name"] != earlier:
                moved.append((target / earlier, target / row["file_name"]))
            yield row

    folder.write_metadata(part, judge_rows())
    wait_for_files()
    for place in {new.parent for _, new in moved}:
        place.mkdir(parents=True, exist_ok=True)
    for earlier, new in moved:
        earlier.replace(new)
    for place in (target / COUNTED_IMAGES).iterdir():
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()  # torchvision refuses a class folder without images
    return judged


def _describe_settings(source: RunFolder, blocks: Mapping[str, DictConfig]) -> Iterator[str]:
    """Yields a line for each setting of a gate that differs from that of the run, and for each other gate."""
    earlier = source.settings.config.get("validity") or {}
    for name in (*blocks, *(name for name in earlier if name not in blocks)):
        if name not in blocks or name not in earlier:
            yield f"validity={name}: {'added' if name in blocks else 'left out'}"
            continue
        before, now = (
            dict(flatten(OmegaConf.to_container(OmegaConf.create(b[name])))) for b in (earlier, blocks)
        )
        for setting in sorted({*before, *now}):
            if before.get(setting) != now.get(setting):
                yield f"validity.{name}.{setting}: {before.get(setting)} before, {now.get(setting)} now"


def _describe_verdicts(judged: Mapping[str, tuple[bool, bool]]) -> Iterator[str]:
    """Yields a line with the numbers of valid images, and one for those valid no more or only now."""
    before, now = (sum(valid[i] for valid in judged.values()) for i in range(2))
    yield f"Valid images: {before} before, {now} now, of {len(judged)}"
    for title, change in (("Rejected now", (True, False)), ("Valid now", (False, True))):
        images = [image for image, valid in judged.items() if valid == change]
        if images:
            yield f"{title}: {words.join_names(images, SHOWN)}"
