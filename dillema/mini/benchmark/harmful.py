"""Whether the edits that a run calls harmful are harmful in truth, over several seeds."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from ...dataset.mini import VALUES, MiniShift, render_as
from ...entry import run_job
from .measures import CLEAR_DAYS, confusion_matrices, load_model, total_iou
from .rows import Row

SOURCES = 48
SEEDS = 5
TRUE_SCENES = 200  # for the true drop of each value
HARMLESS, HARMFUL = 0.02, 0.10  # true drops below and from which on an edit is called so
MOST_FALSE, LEAST_FOUND = 0.05, 0.95

Value = tuple[str, str]


@dataclass(frozen=True)
class Case:
    """A new value in one run: its true drop, and what the run says (None: it cannot be told)."""

    seed: int
    value: Value
    true_drop: float
    harmful: bool | None


def measure_harmful(cfg: DictConfig, sources: int = SOURCES, seeds: int = SEEDS) -> Iterator[Row]:
    """Yields how often harmless edits are called harmful, and how often harmful ones are found.

    The true drop of a value is that of the model under test on renders in which it alone is changed.
    """
    true_drops = measure_true_drops(cfg)
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            cases += _run(Path(folder), seed, sources, true_drops)
    harmless = [case for case in cases if case.true_drop < HARMLESS]
    harmful = [case for case in cases if case.true_drop >= HARMFUL]
    false = float(np.mean([case.harmful is True for case in harmless]))
    found = float(np.mean([case.harmful is True for case in harmful]))
    table = [
        {
            "seed": case.seed,
            "attribute": case.value[0],
            "to": case.value[1],
            "true_drop": case.true_drop,
            "harmful": case.harmful,
        }
        for case in cases
    ]
    yield Row(
        "harmful edits",
        f"{seeds} seeds, {sources} sources each; true drops on renders of {TRUE_SCENES} scenes",
        f"of {len(harmless)} harmless edits {100 * false:.0f} % are called harmful, of {len(harmful)} that "
        f"cost 10 points {100 * found:.0f} % are found",
        "5 % at most; 95 % at least",
        false <= MOST_FALSE and found >= LEAST_FOUND,
        {"false": false, "found": found, "cases": table},
    )


def measure_true_drops(cfg: DictConfig) -> dict[Value, float]:
    """Returns the drop of the model under test on renders in which one value alone is changed."""
    model = load_model(cfg)
    samples = MiniShift(split="val", limit=TRUE_SCENES, where=CLEAR_DAYS).samples()
    masks = [np.asarray(sample.mask) for sample in samples]
    original = total_iou(confusion_matrices(model, [sample.image for sample in samples], masks))
    drops = {}
    for attribute, values in VALUES.items():
        for value in values:
            images = [render_as(sample.id, {**sample.attributes, attribute: value}) for sample in samples]
            drops[attribute, value] = original - total_iou(confusion_matrices(model, images, masks))
    return drops


def _run(folder: Path, seed: int, sources: int, true_drops: dict[Value, float]) -> Iterator[Case]:
    """Yields the cases of one run of the default configuration."""
    run = run_job(
        [
            f"seed={seed}",
            f"dataset.limit={sources}",
            f"store={folder / 'store'}",
            f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
            f"tracking.artifacts={folder / 'artifacts'}",
            f"hydra.run.dir={folder / 'runs' / str(seed)}",
        ]
    )
    (figures,) = run.results["models"].values()
    for row in figures["per_value"]:
        value = row["attribute"], row["to"]
        yield Case(seed, value, true_drops[value], row["harmful"])
