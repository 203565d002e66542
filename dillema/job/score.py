"""The job that adds the scores of gates to a finished run, without generating anything again."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from PIL import Image

from ..backend import Gate, Size, Vary
from ..config import build
from ..context import JobContext
from ..errors import UserError
from ..gate_check import find_dependent_gates
from ..keys import digest
from ..run_folder import RunFolder, StoredImage
from ..runner import Runner
from ..steps.gate import GateItem, GateStep, name_unchanged
from ..steps.verdict import FAILED
from ..store import Store
from ..types import Sample
from .rejudge import judge_again
from .report import check_inputs, open_run

__all__ = ["check_inputs", "find_mistakes", "score"]

log = logging.getLogger(__name__)

PARTS = ("generated", "placebo")


def find_mistakes(cfg: DictConfig) -> Iterator[str]:
    """Yields a message for each gate that depends on a model under test of the run."""
    if cfg.run is None or not (Path(cfg.run).expanduser() / ".hydra").is_dir():
        return  # the job says what is missing
    models = RunFolder(Path(cfg.run).expanduser()).settings.config.get("model") or {}
    gates: Any = OmegaConf.to_container(cfg.validity, resolve=True) if cfg.validity else {}
    yield from find_dependent_gates(models, gates, cfg.store)


def score(context: JobContext) -> RunFolder:
    """Copies a finished run with the scores of more gates, and with new verdicts; returns the new folder.

    Needs the run folder alone. `validity=` names the gates to add; scores that the run has of a gate with
    the same name are replaced. The other gates of the run keep their scores and their thresholds.
    Raises a UserError if no gate is named.
    """
    source = open_run(context)
    if not context.cfg.validity or not any(o.lstrip("+").startswith("validity=") for o in context.overrides):
        raise UserError("job=score: name the gates to add, as in validity=clip or validity=[clip,features]")
    new: dict[str, DictConfig] = dict(context.cfg.validity.items())
    earlier = source.settings.config.get("validity") or {}
    blocks = {name: OmegaConf.create(block) for name, block in earlier.items() if name not in new} | new
    images = [(part, image) for part in PARTS for image in source.images(part)]
    runner = Runner(
        Store(context.cfg.store),
        build(context.cfg.execution),
        context.cfg.max_failures,
        context.cfg.retry_failed,
    )
    scores = _score_images(source, images, [build(block) for block in new.values()], runner)
    seconds = {name: round(value, 3) for name, value in runner.seconds.items()}
    return judge_again(
        source,
        context,
        blocks,
        scores=scores,
        failures=runner.failures,
        results={"seconds": {**source.results["seconds"], **seconds}},
    )


@dataclass(frozen=True)
class RunDataset:
    """What a run folder knows of its data set."""

    name: str
    task: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    ignored: frozenset[int]
    vary: Vary

    def samples(self) -> list[Sample]:
        """Raises a UserError: the samples are not in the run folder."""
        raise UserError(f"the run folder does not hold the samples of {self.name}")


def _score_images(
    source: RunFolder, images: Sequence[tuple[str, StoredImage]], gates: Sequence[Gate], runner: Runner
) -> dict[str, dict[str, float]]:
    """Returns the new scores of each image by "<gate>.<score>"."""
    labels = source.labels
    vary = (source.settings.config.get("dataset") or {}).get("vary") or {}
    dataset = RunDataset(labels.name, labels.task, labels.classes, labels.colours, labels.ignored, vary)
    items = name_unchanged([_make_item(source.path / part, image) for part, image in images])
    _warn_of_losses(images)
    scores: dict[str, dict[str, float]] = {image.id: {} for _, image in images}
    for gate in gates:
        finished = runner.run(GateStep(gate, dataset), items)
        for image, row in scores.items():
            values = finished[image].value if image in finished else {FAILED: 1.0}
            row.update({f"{gate.name}.{name}": value for name, value in values.items()})
    return scores


def _make_item(folder: Path, image: StoredImage) -> GateItem:
    """Returns the item of a gate's step, made of the files of a run folder."""
    mask = image.label.get("mask_file_name")
    sample = Sample(
        id=image.source,
        read_image=image.original.read_bytes,
        read_mask=None if mask is None else (folder / mask).read_bytes,
        label=image.label.get("label"),
        attributes=image.attributes,
        group=image.group,
    )
    # the file may have another size than the image of the record
    key = digest("run folder", _read_size(image.path), dict(image.attributes))
    counterfactual = replace(image.counterfactual, caption=image.caption.text)
    return GateItem(image.id, sample, key, counterfactual, image.path, image.key)


def _warn_of_losses(images: Sequence[tuple[str, StoredImage]]) -> None:
    """Logs what the run folder lacks, so that scores may differ from those of a run with the gates."""
    first = images[0][1] if images else None
    if first is None:
        return
    if _read_size(first.path) != _read_size(first.original):
        log.warning(
            "the images of this run were written in another size than they were generated in (size=...), so "
            "scores may differ a little from those of a run with the gate"
        )
    if "mask_file_name" not in first.label:
        log.info(
            "the run folder holds no masks: a segmenter compares with its own prediction on the original"
        )


def _read_size(path: Path) -> Size | None:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:  # the step meets the same error and records it
        return None
