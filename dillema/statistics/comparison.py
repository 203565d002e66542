"""Compares two models or two runs on the same images."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..predictions import Predictions
from ..task import Task
from .intervals import (
    ENOUGH_GROUPS,
    LEVEL,
    add_up,
    benjamini_hochberg,
    bootstrap_interval,
    randomisation_test,
    to_number,
)
from .paired import PairedTallies

if TYPE_CHECKING:
    import pyarrow as pa

COMPARED_FIGURES = ("original", "counterfactual", "drop")


def compare(a: Predictions, b: Predictions, seed: int, *, valid: bool = True) -> dict[str, Any]:
    """Returns how two models or two runs differ on the same images.

    Takes the images that both have and, with `valid`, that are valid in both. `original`, `counterfactual`
    and `drop` each have the main metric of both, `difference` (a minus b), `low`, `high` and p. If they have
    no image in common, all images of their common sources are taken: `paired` is then "sources" instead of
    "images". `images` counts the images of a and of b. The groups are those of a.
    """
    (before_a, after_a), (before_b, after_b) = a.pairs(valid=valid), b.pairs(valid=valid)
    paired = "images"
    ids = [join_texts(p.image[after], p.digest[after]) for p, after in ((a, after_a), (b, after_b))]
    chosen_a, chosen_b = common_indices(*ids)
    if not len(chosen_a):
        paired = "sources"
        rows = ((a, before_a), (b, before_b))
        names = [join_texts(p.sources[p.source[before]], p.digest[before]) for p, before in rows]
        chosen_a, chosen_b = common_indices(*names)[0], common_indices(*names[::-1])[0]
    figures: dict[str, Any] = {
        "metric": a.task.metric,
        "paired": paired,
        "images": [len(chosen_a), len(chosen_b)],
    }
    if not len(chosen_a):
        return figures | {"sources": 0, "groups": 0}
    first = PairedTallies(a, before_a[chosen_a], after_a[chosen_a], seed)
    second = PairedTallies(_take_groups(b, a), before_b[chosen_b], after_b[chosen_b], seed)
    return (
        figures
        | {
            "sources": first.sources,
            "groups": first.groups,
            "rough": first.rough or second.rough,
            "level": LEVEL,
        }
        | compare_sums(first, second)
    )


def comparisons(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the results of `compare` for several pairs, with p values adjusted for the number of pairs."""
    table = list(rows)
    for side in COMPARED_FIGURES:
        compared = [row[side] for row in table if side in row]
        adjusted = benjamini_hochberg([figures["p"] for figures in compared])
        for figures, p in zip(compared, adjusted, strict=True):
            figures["p_adjusted"] = p
    return table


def compare_sums(a: PairedTallies, b: PairedTallies) -> dict[str, Any]:
    """Returns both main metrics and their difference: of originals, of counterfactuals, and of drops.

    The groups of a and b are the same.
    """
    width = a.sums[0].shape[1]

    def figure(sums: np.ndarray) -> np.ndarray:
        before, after = (a.figure(part)[..., 0] for part in (sums[..., :width], sums[..., width:]))
        return np.stack([before, after, before - after], -1)

    first, second = np.hstack(a.sums), np.hstack(b.sums)
    columns = [figure(first.sum(0)), figure(second.sum(0))]
    columns.append(columns[0] - columns[1])
    if a.groups > 1:
        columns += bootstrap_interval([first, second], lambda x, y: figure(x) - figure(y), a.seed)
        columns.append(randomisation_test(first, second, figure, a.seed))
    else:
        columns += 3 * [np.full(3, np.nan)]
    names = ("a", "b", "difference", "low", "high", "p")
    rows = zip(*columns, strict=True)
    return {
        side: dict(zip(names, map(to_number, row), strict=True))
        for side, row in zip(COMPARED_FIGURES, rows, strict=True)
    }


def sums_by_group(predictions: Predictions, rows: np.ndarray) -> np.ndarray:
    """Returns the tallies of rows added up for each group of sources that has any of them (groups, k)."""
    group = predictions.group[predictions.source[rows]]
    return add_up(predictions.tallies, rows, group)[np.bincount(group) > 0]


def compare_trainings(
    task: Task, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], seed: int
) -> dict[str, Any]:
    """Returns the interval of the difference of the mean main metric of two sets of trainings.

    The interval is over groups of sources. Each training is given by its `sums_by_group`, all of the same
    groups.
    """
    groups = len(ours[0])
    if groups < 2:
        return {"low": None, "high": None, "rough": True, "groups": groups}

    def difference(*sums: np.ndarray) -> np.ndarray:
        scores = np.stack([task.score(part) for part in sums], -1)
        return scores[..., : len(ours)].mean(-1, keepdims=True) - scores[..., len(ours) :].mean(
            -1, keepdims=True
        )

    low, high = bootstrap_interval([*ours, *theirs], difference, seed)
    return {
        "low": to_number(low[0]),
        "high": to_number(high[0]),
        "rough": groups < ENOUGH_GROUPS,
        "groups": groups,
    }


def join_texts(*parts: np.ndarray) -> "pa.Array":
    """Returns the texts of several arrays, joined element by element."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(*(pa.array(part, pa.string()) for part in parts), "\0")


def common_indices(a: "pa.Array", b: "pa.Array") -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices in a of the texts that b also has, and the first index of each in b."""
    import pyarrow.compute as pc

    index = pc.index_in(a, value_set=b)
    return np.flatnonzero(index.is_valid()), index.drop_null().to_numpy()


def _take_groups(predictions: Predictions, reference: Predictions) -> Predictions:
    """Returns predictions in which the sources have the groups of the reference predictions."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names, reference_names = (pa.array(p.sources, pa.string()) for p in (predictions, reference))
    index = pc.fill_null(pc.index_in(names, value_set=reference_names), -1).to_numpy()
    own_group = len(reference.groups) + np.arange(
        len(index)
    )  # of sources that the reference predictions lack
    return replace(predictions, group=np.where(index >= 0, reference.group[index], own_group))
