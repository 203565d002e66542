"""Confusion matrices: the one base of every figure about masks."""

from collections.abc import Collection

import numpy as np


def confusion(truth: np.ndarray, predicted: np.ndarray, ignored: Collection[int]) -> np.ndarray:
    """Returns how many pixels of each true class (row) were predicted as each class (column), as int64.

    Pixels whose true class is ignored are left out. The matrix is square and as large as the largest id needs.
    """
    kept = ~np.isin(truth, list(ignored))
    rows, columns = truth[kept].astype(np.int64), predicted[kept].astype(np.int64)
    size = int(max(rows.max(initial=0), columns.max(initial=0))) + 1
    return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)
