"""Figures with their uncertainty, from saved predictions (see `dillema.predictions`).

All figures are paired: a counterfactual is compared with its original, and an original counts once for each
of its counterfactuals, so that a drop is exactly the difference of two metrics. Images of one source are not
independent, nor are sources of one group (frames of a video). The units of all intervals and tests are
therefore groups; a source without a group is a group of its own.

- Intervals are percentile intervals of a bootstrap over groups (Efron and Tibshirani, An Introduction to the
  Bootstrap, 1993, chapter 13; Field and Welsh, Journal of the Royal Statistical Society B 69, 2007, for
  clusters), both sides drawn together, expanded for the number of groups (Hesterberg, The American
  Statistician 69, 2015).
- p values are those of a two-sided randomisation test that swaps the two sides of whole groups (Noreen,
  Computer-Intensive Methods for Testing Hypotheses, 1989), with Davison and Hinkley's count of the observed
  outcome among the drawn ones, so never 0.
- Intervals of rates are Wilson's (Journal of the American Statistical Association 22, 1927) at the effective
  number of independent answers (Dean and Pagano, Journal of Survey Statistics and Methodology 3, 2015), so a
  rate of 0 has one too.
- With more than UNITS groups, random sets of groups are the units (Wolter, Introduction to Variance
  Estimation, 2007, chapter 2), so that time and memory are bounded. The relative error of a standard error is
  then about sqrt(1 / (2 * UNITS)), which is 2 percent. In the simulations below, intervals of 6000 sources
  contained the truth in 96 of 100 cases, of 1500 sources in 94.
- `rough` says that a figure rests on fewer than ENOUGH_GROUPS groups, by Kish's effective number (Survey
  Sampling, 1965): the square of the sum of their images over the sum of the squares. In simulations (sources
  of 1 to 10 images, losses that differ much between sources) 95 % intervals of a drop and of a flip rate
  contained the truth in 94 and 94 of 100 cases at 200 sources, 94 and 94 at 50, 94 and 93 at 24, and 93 and
  89 at 12.
- Intervals over seeds, where a model was trained several times, are Student's (Biometrika 6, 1908); `rough`
  then says that there are fewer than ENOUGH_SEEDS.
- `p_adjusted` is Benjamini and Hochberg's (Journal of the Royal Statistical Society B 57, 1995) over the rows
  of one table.
- Whether an edit is harmful is tested on one side, twice: for its drop beyond the placebos of the same
  samples, and for the effect of the edit by itself; the larger p counts. The p values of one table are
  adjusted by Benjamini and Hochberg, not by Holm: a reader is given the list of harmful edits, and the share
  of wrong ones in it is what must be bounded. A hierarchy (attributes first, then their values) would gain
  little: the values of an attribute that does harm mostly do, and those of another do not.
- `dillema.statistics.effects` separates the effect of edits from that of the generator, and
  `dillema.statistics.effect_model` that of each edit from those of others in the same images.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..predictions import ORIGINAL, Predictions, read
from ..task import Labels
from .comparison import compare, compare_trainings, comparisons, sums_by_group
from .intervals import ENOUGH_GROUPS, ENOUGH_SEEDS, LEVEL, MIN_GROUPS, means, over_seeds, to_number
from .reference import ReferenceImages, compare_with_reference
from .summary import headline, summary
from .truth import truth

__all__ = [
    "ENOUGH_GROUPS",
    "ENOUGH_SEEDS",
    "LEVEL",
    "MIN_GROUPS",
    "ReferenceImages",
    "compare",
    "compare_trainings",
    "compare_with_reference",
    "comparisons",
    "confusion_matrix",
    "means",
    "over_seeds",
    "summarise",
    "summary",
    "sums_by_group",
    "to_number",
    "truth",
]


def summarise(
    path: Path, labels: Labels, models: Sequence[str], seed: int, reference: ReferenceImages | None = None
) -> dict[str, Any]:
    """Returns the figures of a file of predictions: of each model, and of each two models compared.

    The figures of a model are those of valid images; `all` holds the headline of all images.
    """
    predictions = {model: read(path, model, labels) for model in models}
    figures = {}
    for model, rows in predictions.items():
        of_all = headline(rows, seed, valid=False)
        figures[model] = summary(rows, seed, valid=True) | {"all": of_all, "truth": truth(rows, seed)}
        if reference is not None:
            figures[model]["reference"] = compare_with_reference(rows, reference, seed)
    pairs = combinations(models, 2)
    compared = ({"a": a, "b": b} | compare(predictions[a], predictions[b], seed) for a, b in pairs)
    return {"models": figures, "comparisons": comparisons(compared)}


def confusion_matrix(predictions: Predictions, kind: str = ORIGINAL) -> tuple[list[str], np.ndarray]:
    """Returns the names of the classes and the confusion matrix of the images of a kind.

    True classes are rows, also those that are not scored. Counts each valid image once, in the unit
    `Task.unit`. Empty for a task without confusion matrices.
    """
    weights = ((predictions.kind == kind) & predictions.valid).astype(float)
    names = list(predictions.task.confusion_names(predictions.labels))
    return names, predictions.confusion(weights).astype(np.int64)
