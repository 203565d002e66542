"""Ranks generators and conditionings by what they cost alone, and by how many images show their edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from ..report import words
from ..run_folder import RunFolder

PAINTING_GROUPS = ("generator", "conditioning")
EDIT_SCORE, ORIGINAL_SCORE = "edited", "original"
"""The scores of gates that look for the edits, such as `reader` and `questions`."""
DEFAULT_THRESHOLD = 0.5


class Run(Protocol):
    """The part of a compared run that a ranking uses."""

    number: int
    folder: RunFolder
    settings: dict[str, str]


class Row(Protocol):
    """The part of a compared model of a run that a ranking uses."""

    model: str
    figures: Mapping[str, Any]

    @property
    def run(self) -> Run:
        """Returns the run."""
        ...


@dataclass(frozen=True)
class RankedGenerator:
    """What a run says about its generator and conditioning, on one model under test.

    Attributes:
        options: The settings of generator and conditioning that differ between the runs.
        gap_rank: Its rank by placebo gap among the runs with the same model, from 1; None without placebos.
        edits_rank: Its rank by the share of images that show their edits; None where no gate looked.
    """

    row: Row
    options: str
    gap_rank: int | None = None
    edits_rank: int | None = None

    @property
    def placebo(self) -> Mapping[str, Any]:
        """Returns the figures of images in which nothing was changed; empty without them."""
        return self.row.figures.get("placebo") or {}

    @property
    def gap(self) -> float | None:
        """Returns the drop on images in which nothing was changed."""
        drop: float | None = self.placebo.get("drop")
        return drop

    @cached_property
    def edits(self) -> tuple[int, int]:
        """Returns how many images show all their edits, and how many a gate could judge."""
        return count_edits_that_show(self.row.run.folder)

    @property
    def edits_share(self) -> float | None:
        """Returns the share of images that show all their edits; None where no gate could judge."""
        shown, judged = self.edits
        return shown / judged if judged else None


def rank_generators(rows: Sequence[Row]) -> list[RankedGenerator]:
    """Returns the rows ranked for each model under test, the smallest placebo gap first.

    Models lose different amounts on the same images, so that gaps are compared only where the model is the
    same. Empty if generators do not differ between runs.
    """
    names = [name for row in rows[:1] for name in row.run.settings if name.split(".")[0] in PAINTING_GROUPS]
    if not names or len({row.run.number for row in rows}) < 2:
        return []
    entries_by_model: dict[str, list[RankedGenerator]] = {}
    for row in rows:
        options = ", ".join(f"{name}={row.run.settings[name]}" for name in names)
        entries_by_model.setdefault(row.model, []).append(RankedGenerator(row, options))
    ranked = [entry for entries in entries_by_model.values() for entry in _rank(entries)]
    is_ranked = any(entry.gap_rank or entry.edits_rank for entry in ranked)
    return ranked if is_ranked else []


def _rank(entries: Sequence[RankedGenerator]) -> list[RankedGenerator]:
    """Returns the entries of one model with their ranks, in the order of these."""
    gaps = sorted(entry.gap for entry in entries if entry.gap is not None)
    shares = sorted((e.edits_share for e in entries if e.edits_share is not None), reverse=True)
    ranked = [
        RankedGenerator(
            entry.row,
            entry.options,
            None if entry.gap is None else gaps.index(entry.gap) + 1,
            None if entry.edits_share is None else shares.index(entry.edits_share) + 1,
        )
        for entry in entries
    ]
    last = len(ranked) + 1
    return sorted(ranked, key=lambda entry: (entry.gap_rank or last, entry.edits_rank or last))


def count_edits_that_show(folder: RunFolder) -> tuple[int, int]:
    """Returns how many generated images show all their edits, and of how many that is known.

    An image shows its edits if every gate with the score `edited` gives it the threshold `min_edited` of the
    run or more. A gate that does not recognise the old value of an edit in the original (score `original`
    below `min_original`) is no judge of that edit.
    """
    thresholds = folder.settings.config.get("validity") or {}
    shown = judged = 0
    for image in folder.generated():
        scores = image.verdict.scores
        answers = []
        for name, score in scores.items():
            gate, _, kind = name.rpartition(".")
            limits = thresholds.get(gate) or {}
            original = f"{gate}.{kind.replace(EDIT_SCORE, ORIGINAL_SCORE)}"
            recognises = scores.get(original, 1.0) >= limits.get("min_original", DEFAULT_THRESHOLD)
            if kind.partition("_")[0] == EDIT_SCORE and recognises:  # `edited_2` is of a second edit
                answers.append(score >= limits.get("min_edited", DEFAULT_THRESHOLD))
        judged += bool(answers)
        shown += bool(answers) and all(answers)
    return shown, judged


def ranking_table(ranked: Sequence[RankedGenerator]) -> Table:
    """Returns the ranking for a terminal of 80 columns."""
    headers = ("run", "generator, model", "placebo gap,\npoints", "rank", "edits\nshow", "rank")
    several = len({entry.row.model for entry in ranked}) > 1
    title = f"Generators, the smallest placebo gap first{', for each model under test' if several else ''}"
    table = Table(*headers, title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for entry in ranked:
        bounds = words.interval(entry.placebo)
        gap = "\n".join(filter(None, [words.points(entry.gap), bounds]))
        cells = [str(entry.row.run.number), f"{entry.options}\n{entry.row.model}", gap]
        cells += [str(entry.gap_rank or "-"), words.percent(entry.edits_share), str(entry.edits_rank or "-")]
        table.add_row(*map(Text, cells))
    return table
