"""Metrics from sums over images: confusion matrices, intersection over union, calibration."""

from collections.abc import Collection

import numpy as np

CALIBRATION_BINS = 15  # as in Guo et al.


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, ignored: Collection[int]) -> np.ndarray:
    """Returns how many pixels of each true class (row) were predicted as each class (column), as int64.

    Pixels whose true class is ignored are left out. The matrix is square and as large as the largest id
    needs.
    """
    scored = ~np.isin(truth, list(ignored))
    rows, columns = truth[scored].astype(np.int64), predicted[scored].astype(np.int64)
    size = int(max(rows.max(initial=0), columns.max(initial=0))) + 1
    return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns a quotient; NaN if the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=np.asarray(denominator) > 0)


def iou_per_class(hits: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of each class; NaN for classes that the truth lacks.

    Takes three counts of pixels of each class (..., classes): correctly predicted, true, and predicted.
    """
    return np.where(true > 0, hits / np.maximum(true + predicted - hits, 1), np.nan)


def mean_iou_of_counts(hits: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the mean of `iou_per_class` over the classes that the truth has; NaN when it has none."""
    # a class that the truth lacks has no hits
    return ratio((hits / np.maximum(true + predicted - hits, 1)).sum(-1), (true > 0).sum(-1))


def mean_iou(matrix: np.ndarray) -> np.ndarray:
    """Returns the mean intersection over union of confusion matrices (..., classes, classes)."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return mean_iou_of_counts(hits, matrix.sum(-1), matrix.sum(-2))


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Returns the share of correctly predicted pixels."""
    return ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum((-2, -1)))


def macro_averages(matrix: np.ndarray) -> dict[str, float]:
    """Returns precision, recall and F1, averaged over the classes that occur in truth or predictions.

    A class whose denominator is 0 counts as 0, as in scikit-learn (average="macro", zero_division=0). Takes
    one confusion matrix (classes, classes).
    """
    hits, true, predicted = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    occurs = true + predicted > 0
    fractions = {"precision": (hits, predicted), "recall": (hits, true), "f1": (2 * hits, true + predicted)}
    return {name: float(np.nan_to_num(ratio(a, b))[occurs].mean()) for name, (a, b) in fractions.items()}


def calibration_error(certainty: np.ndarray, right: np.ndarray) -> float:
    """Returns the expected calibration error over 15 bins of equal width (Guo et al., ICML 2017)."""
    bins = np.minimum((certainty * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return float(np.abs(np.bincount(bins, certainty) - np.bincount(bins, right)).sum() / len(bins))
