"""Figures that one can defend, from saved predictions (see evaluation.predictions).

Everything is paired: a counterfactual image is held against the original it was made from, and an original counts as often
as it has counterfactuals, so that a drop is exactly the difference of two metrics. Images of one source are not independent,
so whatever says how certain a figure is takes sources, and not images, for the units:

- Intervals are percentile intervals of a bootstrap over sources (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
  chapter 13; Field and Welsh, Journal of the Royal Statistical Society B 69, 2007, for clusters), both sides drawn together,
  expanded for the number of sources (Hesterberg, The American Statistician 69, 2015).
- p values are those of a two-sided randomisation test that swaps the two sides of whole sources (Noreen, Computer-Intensive
  Methods for Testing Hypotheses, 1989), with Davison and Hinkley's count of the seen outcome among the drawn ones, so never 0.
- Intervals of rates are Wilson's (Journal of the American Statistical Association 22, 1927) at the effective number of
  independent answers (Dean and Pagano, Journal of Survey Statistics and Methodology 3, 2015), so a rate of 0 has one too.
- Of more than UNITS sources, groups of them thrown together at random stand for the units (Wolter, Introduction to Variance Estimation,
  2007, chapter 2), so that time and memory are bounded; a standard error then errs by some sqrt(1 / (2 * UNITS)), which is 2 percent.
  In the simulations below, intervals of 6000 sources held the truth in 96 of 100 cases, of 1500 in 94.
- `rough` says that fewer than ENOUGH sources stand behind a figure, by Kish's effective number (Survey Sampling, 1965): the square of the
  sum of their images over the sum of the squares. In simulations (sources of 1 to 10 images, losses that differ much between
  sources) 95 % intervals of a drop and of a flip rate held the truth in 94 and 94 of 100 cases at 200 sources, 94 and 94 at 50, 94
  and 93 at 24, 93 and 89 at 12.
- Intervals over seeds, where a model was trained several times, are Student's (Biometrika 6, 1908); `rough` then says that there are fewer than SEEDS.
- `p_adjusted` is Benjamini and Hochberg's (Journal of the Royal Statistical Society B 57, 1995) over the rows of one table.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ..types import Dataset
from .predictions import BATCH, COUNTERFACTUAL, TRUTH, Labels, Predictions

if TYPE_CHECKING:
    import pyarrow as pa

LEVEL = 0.95
DRAWS = 2000
MAIN = {"classification": "accuracy", "segmentation": "mean_iou"}
FLIPS = ("flip_rate", "flip_rate_low", "flip_rate_high", "any_flip_rate", "any_flip_rate_low", "any_flip_rate_high", "mcnemar_p")
UNITS = 1000  # drawn at most
AT_ONCE = 1_000_000  # numbers drawn at a time: they bound the memory
ENOUGH = 50
SEEDS = 5
BINS = 15  # of the calibration error, as in Guo et al.
CONFUSIONS = 20  # shown

Figure = Callable[[np.ndarray], np.ndarray]
"""Takes sums of tallies (..., k) and returns figures (..., m); NaN where there is nothing to say."""


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of each class (..., classes), NaN where the truth has none of it; true classes are rows."""
    return _iou(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2))


def mean_iou(matrix: np.ndarray) -> np.ndarray:
    """Returns the mean of the classes' intersection over union, over the classes that the truth has; NaN when it has none."""
    return _mean_iou(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2))


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Returns the share of pixels that were predicted right."""
    return _ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum((-2, -1)))


def macro(matrix: np.ndarray) -> dict[str, float]:
    """Returns precision, recall and F1: the mean over the classes that occur in truth or predictions, 0 where a class has none.

    As in scikit-learn (average="macro", zero_division=0), of a confusion matrix (classes, classes).
    """
    hits, truth, predicted = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    known = truth + predicted > 0
    parts = {"precision": (hits, predicted), "recall": (hits, truth), "f1": (2 * hits, truth + predicted)}
    return {name: float(np.nan_to_num(_ratio(a, b))[known].mean()) for name, (a, b) in parts.items()}


def calibration_error(certainty: np.ndarray, right: np.ndarray) -> float:
    """Returns the expected calibration error over 15 bins of equal width (Guo et al., ICML 2017)."""
    bins = np.minimum((certainty * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, certainty) - np.bincount(bins, right)).sum() / len(bins))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Returns Wilson's score interval of a share that was seen in n independent answers."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    middle, half = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def over_seeds(values: Sequence[float]) -> dict[str, float | None]:
    """Returns the mean of what several trainings gave, and its interval; NaN and single values have none."""
    from scipy.stats import t

    given, n = np.asarray(values, float), len(values)
    reach = t.ppf((1 + LEVEL) / 2, n - 1) * given.std(ddof=1) / sqrt(n) if n > 1 else np.nan
    return {"mean": number(given.mean()), "low": number(given.mean() - reach), "high": number(given.mean() + reach)}


def metric(tallies: np.ndarray, dataset: Labels) -> np.ndarray:
    """Returns the main metric of tallies (..., k): of sums of those of predictions, or of single rows, each an image's own."""
    return _mean_iou(*_parts(tallies)) if dataset.task == "segmentation" else _ratio(tallies[..., 0], tallies[..., 2])


def rate(name: str, hits: np.ndarray, images: np.ndarray) -> dict[str, float | None]:
    """Returns the share of hits among the images of all sources, given both for each source, with its interval."""
    total, n = images.sum(), len(images)
    if not n:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    share = hits.sum() / total
    spread = ((hits - share * images) ** 2).sum() / total**2  # the variance of the share, sources being drawn
    low, high = wilson(share, min(total, share * (1 - share) / spread) if spread > 0 else n)
    return {name: float(share), f"{name}_low": low, f"{name}_high": high}


def means(values: Iterable[tuple[str, float]], seed: int) -> dict[str, Any]:
    """Returns the mean of the values of images, each given with its source, and its interval. Holds the sums of each source."""
    found: dict[str, list[float]] = {}
    for source, value in values:
        held = found.setdefault(source, [0, 0])
        held[0] += value
        held[1] += 1
    if not found:
        return {"images": 0, "mean": None, "low": None, "high": None}
    sums = np.array([found[source] for source in sorted(found)])
    images = sums[:, 1].sum()
    figures = {"images": int(images), "mean": number(sums[:, 0].sum() / images), "low": None, "high": None}
    if len(sums) > 1:
        unit = _units(len(sums), seed)
        low, high = interval([_added(sums, np.arange(len(sums)), unit)], lambda drawn: drawn[..., :1] / drawn[..., 1:], seed)
        figures |= {"low": number(low[0]), "high": number(high[0])}
    return figures


def mcnemar(worse: int, better: int) -> float:
    """Returns the two-sided exact p of so many changes for the worse and for the better, if both were equally likely (Psychometrika 12, 1947)."""
    from scipy.stats import binomtest

    return float(binomtest(worse, worse + better).pvalue) if worse + better else 1.0


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Returns p values adjusted for their number; None stays None and does not count."""
    from scipy.stats import false_discovery_control

    known = [value for value in p if value is not None]
    left = iter(false_discovery_control(known).tolist() if known else [])
    return [None if value is None else next(left) for value in p]


def interval(sums: Sequence[np.ndarray], figure: Callable[..., np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds (m,) of figure(*sums), where `sums` hold the tallies of each source (sources, k), one matrix a side."""
    from scipy.stats import t

    random, n, drawn = np.random.default_rng(seed), len(sums[0]), []
    for block in _blocks(n):
        chosen = random.integers(0, n, (block, n), np.int32) + np.arange(block)[:, None] * n
        times = np.bincount(chosen.ravel(), minlength=block * n).reshape(block, n).astype(float)
        drawn.append(figure(*(times @ part for part in sums)))
    draws = np.concatenate(drawn)
    bounds = np.full((2, draws.shape[1]), np.nan)
    said = ~np.isnan(draws).all(0)
    # Student's t in place of the normal distribution, and the bias of the bootstrap's variance undone
    outside = NormalDist().cdf(-t.ppf((1 + LEVEL) / 2, n - 1) * sqrt(n / (n - 1)))
    bounds[:, said] = np.nanquantile(draws[:, said], [outside, 1 - outside], axis=0)
    return bounds[0], bounds[1]


def randomisation(first: np.ndarray, second: np.ndarray, figure: Figure, seed: int) -> np.ndarray:
    """Returns the p (m,) of the difference between two sides (sources, k), if it did not matter which side is which."""
    seen = np.abs(figure(first.sum(0)) - figure(second.sum(0)))
    total, difference, random, extreme = (first + second).sum(0), first - second, np.random.default_rng(seed), np.zeros(seen.shape)
    for block in _blocks(len(first)):
        swung = (random.integers(0, 2, (block, len(first)), np.int8) - 0.5) @ difference
        # the same sums come in other orders of floating point
        extreme += (np.abs(figure(total / 2 + swung) - figure(total / 2 - swung)) >= seen - 1e-12).sum(0)
    return np.where(np.isnan(seen), np.nan, (1 + extreme) / (1 + DRAWS))


class Sides:
    """Originals (rows `before`) and their counterfactuals (`after`), with `images` and tallies (`sums`: both sides) of each source.

    Tallies are those of the predictions and two more: the sum and the count of confidences.
    """

    def __init__(self, predictions: Predictions, dataset: Labels, before: np.ndarray, after: np.ndarray, seed: int) -> None:
        self.predictions, self.dataset, self.before, self.after, self.seed = predictions, dataset, before, after, seed
        self.starts = np.flatnonzero(np.diff(predictions.source[after], prepend=-1))
        self.sources, self.images = len(self.starts), np.diff(self.starts, append=len(after))
        unit = np.repeat(_units(self.sources, seed), self.images)
        order = np.argsort(unit, kind="stable")
        starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
        scored = ~np.isnan(predictions.confidence[before] + predictions.confidence[after])
        self.sums = []
        for rows in (before, after):
            confidence = np.stack([np.where(scored, predictions.confidence[rows], 0), scored], 1)[order]
            self.sums.append(np.hstack([_added(predictions.tallies, rows, unit), np.add.reduceat(confidence, starts, axis=0)]))

    def of(self, some: np.ndarray) -> "Sides":
        """Returns some of the pairs, given in their order."""
        return Sides(self.predictions, self.dataset, self.before[some], self.after[some], self.seed)

    def holding(self, groups: Mapping[Any, list[int]]) -> Iterator[tuple[Any, "Sides"]]:
        """Yields, for each group of combinations of edits by name, the pairs that have one of them."""
        codes = self.predictions.combination[self.after]
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(self.predictions.combinations) + 1))
        for name, group in sorted(groups.items()):
            some = np.sort(np.concatenate([order[starts[i] : starts[i + 1]] for i in group]))
            if len(some):
                yield name, self.of(some)

    def figure(self, sums: np.ndarray) -> np.ndarray:
        """Returns the main metric and the mean confidence in the true class (..., 2)."""
        return np.stack([metric(sums[..., :-2], self.dataset), _ratio(sums[..., -2], sums[..., -1])], -1)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the interval of the drop of each figure; NaN for a single source."""
        if self.sources < 2:
            return np.full(2, np.nan), np.full(2, np.nan)
        return interval(self.sums, lambda before, after: self.figure(before) - self.figure(after), self.seed)

    @property
    def rough(self) -> bool:
        """Returns whether there are too few sources for an interval to hold what it says."""
        return bool(self.images.sum() ** 2 < ENOUGH * (self.images**2).sum())

    def effect(self) -> dict[str, Any]:
        """Returns the drop of the main metric and of the mean confidence in the true class, with intervals, and the p of the former."""
        before, after = (self.figure(side.sum(0)) for side in self.sums)
        drop, (low, high) = before - after, self.bounds()
        p = randomisation(self.sums[0], self.sums[1], lambda sums: self.figure(sums)[..., :1], self.seed)[0] if self.sources > 1 else np.nan
        return {"n": len(self.after), "sources": self.sources, "drop": number(drop[0]), "low": number(low[0]), "high": number(high[0])} | {
            "rough": self.rough,
            "p": number(p),
            "confidence_drop": number(drop[1]),
            "confidence_low": number(low[1]),
            "confidence_high": number(high[1]),
        }


def summary(predictions: Predictions, dataset: Dataset, seed: int, *, valid: bool) -> dict[str, Any]:
    """Returns all figures of one model, on valid counterfactuals or on all. Flips are about right and wrong answers: None for segmentation."""
    rows = predictions.pairs(valid=valid)
    figures: dict[str, Any] = {"metric": MAIN[dataset.task], "sources": len(np.unique(predictions.source[rows[1]])), "images": len(rows[1])}
    if not figures["images"]:
        return figures
    sides = Sides(predictions, dataset, *rows, seed)
    matrices = [predictions.confusion(np.bincount(some, minlength=len(predictions.source)).astype(float)) for some in rows]
    for side, some, matrix in zip(("original", "counterfactual"), rows, matrices, strict=True):
        figures[side] = _metrics(predictions, dataset, some, matrix)
    effect = sides.effect()
    del effect["n"]
    return (
        figures
        | effect
        | {"level": LEVEL}
        | (_flips(sides) if dataset.task == "classification" else dict.fromkeys(FLIPS))
        | {"per_attribute": per_attribute(sides), "per_pair": per_pair(sides)}
        | {"per_class": per_class(sides), "confusions": confusions(matrices[0], matrices[1], dataset.classes)}
    )


def per_attribute(sides: Sides) -> list[dict[str, Any]]:
    """Returns what each edit does, over the counterfactuals that hold it, the most harmful first."""
    return _by_harm({"attribute": a, "from": b, "to": c} | group.effect() for (a, b, c), group in sides.holding(_by_edit(sides.predictions)))


def per_pair(sides: Sides) -> list[dict[str, Any]]:
    """Returns what each two values of two attributes do together, where at least two sources have both, the most harmful first."""
    groups: dict[tuple[tuple[str, str], tuple[str, str]], list[int]] = {}
    for i, edits in enumerate(sides.predictions.combinations):
        for one, other in combinations(sorted({(e.attribute, e.replacement) for e in edits}), 2):
            groups.setdefault((one, other), []).append(i)
    held = ((one, other, group) for (one, other), group in sides.holding(groups) if group.sources > 1)
    return _by_harm({"attributes": [one[0], other[0]], "to": [one[1], other[1]]} | group.effect() for one, other, group in held)


def per_class(sides: Sides) -> dict[str, dict[str, float | None]]:
    """Returns the intersection over union, or the accuracy, of each class that the originals have, with the interval of its drop."""
    rows: dict[int, Sequence[float]] = {}
    if sides.dataset.task == "segmentation":
        before, after = (_iou(*_parts(side[:, :-2].sum(0))) for side in sides.sums)
        bounds = np.full((2, len(before)), np.nan)
        if sides.sources > 1:
            bounds[:] = interval([side[:, :-2] for side in sides.sums], lambda a, b: _iou(*_parts(a)) - _iou(*_parts(b)), sides.seed)
        rows = {i: (before[i], after[i], *bounds[:, i]) for i in np.flatnonzero(~np.isnan(before)).tolist()}
    else:
        labels = sides.predictions.label[sides.after]
        order = np.argsort(labels, kind="stable")
        for some in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
            group = sides.of(some)
            rows[int(labels[some[0]])] = [*(group.figure(side.sum(0))[0] for side in group.sums), *(bound[0] for bound in group.bounds())]
    return {
        sides.dataset.classes[i]: {"original": number(before), "counterfactual": number(after), "drop": number(before - after)}
        | {"low": number(low), "high": number(high)}
        for i, (before, after, low, high) in rows.items()
    }


def confusions(before: np.ndarray, after: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Returns which classes are taken for which others more often than before (images, or pixels), the largest rise first.

    `share` is the rise over all that is truly of the class.
    """
    rise = after - before
    np.fill_diagonal(rise, 0)
    most = np.argsort(-rise, axis=None, kind="stable")[:CONFUSIONS]
    return [
        {"true": classes[t], "predicted": classes[p], "original": int(before[t, p]), "counterfactual": int(after[t, p]), "share": rise[t, p] / after[t].sum()}
        for t, p in zip(*np.unravel_index(most, rise.shape), strict=True)
        if rise[t, p] > 0
    ]


def compare(a: Predictions, b: Predictions, dataset: Labels, seed: int, *, valid: bool = True) -> dict[str, Any]:
    """Returns how two models, or two runs, differ on the same images: those that both have, and hold valid when asked.

    `original`, `counterfactual` and `drop` each have the main metric of both, `difference` (a less b), `low`, `high` and p.
    Where they have no image in common, but sources, each has its own images of these: `paired` is "sources" then, and
    "images" else; `images` counts those of a and b.
    """
    pairs = a.pairs(valid=valid), b.pairs(valid=valid)
    paired = "images"
    kept = _common(*(_ids(p.image[after], p.digest[after]) for p, (_, after) in zip((a, b), pairs, strict=True)))
    if not len(kept[0]):
        paired = "sources"
        names = [_ids(p.sources[p.source[before]], p.digest[before]) for p, (before, _) in zip((a, b), pairs, strict=True)]
        kept = _common(*names)[0], _common(*names[::-1])[0]
    figures: dict[str, Any] = {"metric": MAIN[dataset.task], "paired": paired, "images": [len(some) for some in kept]}
    if not len(kept[0]):
        return figures | {"sources": 0}
    one, other = (Sides(p, dataset, before[some], after[some], seed) for p, (before, after), some in zip((a, b), pairs, kept, strict=True))
    return figures | {"sources": one.sources, "rough": one.rough or other.rough, "level": LEVEL} | _differences(one, other)


def comparisons(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what `compare` said of several pairs, each p adjusted for their number."""
    table = list(rows)
    for side in ("original", "counterfactual", "drop"):
        known = [row[side] for row in table if side in row]
        for figures, p in zip(known, benjamini_hochberg([figures["p"] for figures in known]), strict=True):
            figures["p_adjusted"] = p
    return table


def truth(predictions: Predictions, dataset: Dataset, seed: int) -> dict[str, Any] | None:
    """Returns the drop on valid counterfactuals beside that on real renders of what they stand for; None where there are no renders.

    `error` is the estimated drop less the true one, with its interval. Over the edits: the mean absolute error, and the rank
    correlation of estimated and true drops.
    """
    from scipy.stats import spearmanr

    pairs = [predictions.pairs(kind, valid=True) for kind in (COUNTERFACTUAL, TRUTH)]
    kept = _common(*(_ids(predictions.image[after]) for _, after in pairs))
    if not len(kept[0]):
        return None
    estimated, true = (Sides(predictions, dataset, before[some], after[some], seed) for (before, after), some in zip(pairs, kept, strict=True))

    def held(one: Sides, other: Sides) -> dict[str, Any]:
        drop = _differences(one, other)["drop"]
        figures = {"n": len(one.after), "sources": one.sources, "estimated": drop["a"], "true": drop["b"], "error": drop["difference"]}
        return figures | {"low": drop["low"], "high": drop["high"], "rough": one.rough}

    edits = _by_edit(predictions)
    table = [
        {"attribute": a, "from": b, "to": c} | held(one, other)
        for ((a, b, c), one), (_, other) in zip(estimated.holding(edits), true.holding(edits), strict=True)
    ]
    drops = np.array([(row["estimated"], row["true"]) for row in table if row["error"] is not None]).reshape(-1, 2).T
    return held(estimated, true) | {
        "mean_absolute_error": number(np.abs(drops[0] - drops[1]).mean()) if drops.size else None,
        "rank_correlation": number(spearmanr(*drops).statistic) if drops.size > 2 and np.ptp(drops, 1).all() else None,  # of what does not differ there is none
        "per_attribute": table,
    }


def number(figure: Any) -> float | None:
    """Returns a figure as JSON has it: NaN is none."""
    return None if np.isnan(figure) else float(figure)


def _differences(a: Sides, b: Sides) -> dict[str, Any]:
    """Returns both main metrics, and their difference, on the originals, on the counterfactuals, and of the drops; the pairs are the same."""
    width = a.sums[0].shape[1]

    def figure(sums: np.ndarray) -> np.ndarray:
        before, after = (a.figure(part)[..., 0] for part in (sums[..., :width], sums[..., width:]))
        return np.stack([before, after, before - after], -1)

    first, second = np.hstack(a.sums), np.hstack(b.sums)
    columns = [figure(first.sum(0)), figure(second.sum(0))]
    columns.append(columns[0] - columns[1])
    if a.sources > 1:
        columns += [*interval([first, second], lambda x, y: figure(x) - figure(y), a.seed), randomisation(first, second, figure, a.seed)]
    else:
        columns += 3 * [np.full(3, np.nan)]
    names = ("a", "b", "difference", "low", "high", "p")
    rows = zip(*columns, strict=True)
    return {which: dict(zip(names, map(number, row), strict=True)) for which, row in zip(("original", "counterfactual", "drop"), rows, strict=True)}


def _ids(*parts: np.ndarray) -> "pa.Array":
    """Returns texts made of those of several arrays."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(*(pa.array(part, pa.string()) for part in parts), "\0")


def _common(a: "pa.Array", b: "pa.Array") -> tuple[np.ndarray, np.ndarray]:
    """Returns the places in a of the ids that b has too, and for each its first place in b."""
    import pyarrow.compute as pc

    place = pc.index_in(a, value_set=b)
    return np.flatnonzero(place.is_valid()), place.drop_null().to_numpy()


def _by_edit(predictions: Predictions) -> dict[tuple[str, str, str], list[int]]:
    """Returns the combinations that hold each edit."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for i, edits in enumerate(predictions.combinations):
        for edit in set(edits):
            groups.setdefault((edit.attribute, edit.original, edit.replacement), []).append(i)
    return groups


def _by_harm(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows with their p adjusted, the largest drop first."""
    table = sorted(rows, key=lambda row: -np.inf if row["drop"] is None else row["drop"], reverse=True)
    return [row | {"p_adjusted": p} for row, p in zip(table, benjamini_hochberg([row["p"] for row in table]), strict=True)]


def _metrics(predictions: Predictions, dataset: Dataset, rows: np.ndarray, matrix: np.ndarray) -> dict[str, float | None]:
    if dataset.task == "classification":
        right, among, _ = predictions.tallies[rows].mean(0)
        error = calibration_error(predictions.certainty[rows], predictions.tallies[rows, 0])
        return {"accuracy": float(right), "top5_accuracy": float(among), **macro(matrix), "calibration_error": error}
    each = np.concatenate([_mean_iou(*_parts(predictions.tallies[rows[i : i + BATCH]])) for i in range(0, len(rows), BATCH)])
    scored = each[~np.isnan(each)]
    figures = {"mean_iou": mean_iou(matrix), "pixel_accuracy": pixel_accuracy(matrix), "image_iou": scored.mean() if len(scored) else np.nan}
    return {name: number(value) for name, value in figures.items()}


def _flips(sides: Sides) -> dict[str, float | None]:
    """Returns how often a right answer turns wrong, per counterfactual and for any of a source's, and McNemar's p on one of each source."""
    before, after = (sides.predictions.tallies[rows, 0] == 1 for rows in (sides.before, sides.after))
    hits = np.add.reduceat(before & ~after, sides.starts, dtype=int)
    sound = before[sides.starts]
    one = sides.starts + (np.random.default_rng(sides.seed).random(sides.sources) * sides.images).astype(int)
    return (
        rate("flip_rate", hits[sound], sides.images[sound])
        | rate("any_flip_rate", hits[sound] > 0, np.ones(sound.sum()))
        | {"mcnemar_p": mcnemar(int((before & ~after)[one].sum()), int((after & ~before)[one].sum()))}
    )


def _parts(tallies: np.ndarray) -> np.ndarray:
    """Returns hits, true pixels and predicted pixels (3, ..., classes) of tallies (..., 3 * classes)."""
    return np.moveaxis(tallies.reshape(*tallies.shape[:-1], 3, -1), -2, 0)


def _iou(hits: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.where(truth > 0, hits / np.maximum(truth + predicted - hits, 1), np.nan)


def _mean_iou(hits: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    # what the truth lacks has no hits
    return _ratio((hits / np.maximum(truth + predicted - hits, 1)).sum(-1), (truth > 0).sum(-1))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.broadcast_shapes(np.shape(a), np.shape(b)), np.nan), where=np.asarray(b) > 0)


def _units(sources: int, seed: int) -> np.ndarray:
    """Returns the unit of each source: itself, or one of UNITS groups of about as many sources, thrown together at random."""
    return np.arange(sources) if sources <= UNITS else np.random.default_rng(seed).permutation(np.arange(sources) % UNITS)


def _added(tallies: np.ndarray, rows: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Returns the tallies of rows added up for each unit (units, k), where `unit` says of which each row is."""
    sums = np.zeros((unit.max(initial=-1) + 1, tallies.shape[1]))
    order = np.argsort(unit, kind="stable")
    for i in range(0, len(rows), BATCH):
        some = order[i : i + BATCH]
        starts = np.flatnonzero(np.diff(unit[some], prepend=-1))
        sums[unit[some[starts]]] += np.add.reduceat(tallies[rows[some]], starts, axis=0, dtype=float)
    return sums


def _blocks(sources: int) -> Iterator[int]:
    """Yields how many draws to make at a time."""
    size = min(DRAWS, max(1, AT_ONCE // sources // 4 * 4))  # numpy draws bytes by four: the figures do not depend on AT_ONCE
    for done in range(0, DRAWS, size):
        yield min(size, DRAWS - done)
