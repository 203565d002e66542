import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as reference

from dillema.metrics import calibration_error, confusion_matrix, macro_averages, mean_iou, pixel_accuracy


def test_mean_iou_by_hand_leaves_out_classes_that_the_truth_lacks():
    # sky: 6 right, 2 taken for road; road: 3 right, 1 taken for car, which is nowhere in the truth
    matrix = np.array([[6, 2, 0], [0, 3, 1], [0, 0, 0]])
    assert mean_iou(matrix) == pytest.approx((6 / 8 + 3 / 6) / 2)
    assert pixel_accuracy(matrix) == pytest.approx(9 / 12)
    assert np.isnan(mean_iou(np.zeros((3, 3)))) and np.isnan(pixel_accuracy(np.zeros((3, 3))))
    assert mean_iou(np.stack([matrix, matrix.T])).shape == (2,)


def test_a_confusion_matrix_leaves_out_ignored_classes():
    truth, predicted = np.array([[0, 1], [2, 1]]), np.array([[0, 0], [1, 1]])
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, {2}), [[1, 0], [1, 1]])


def test_metrics_agree_with_torchmetrics():
    random = torch.Generator().manual_seed(0)
    # the fourth class is only predicted
    logits = torch.randn(500, 4, generator=random)
    label = torch.randint(0, 3, (500,), generator=random)
    predicted = logits.argmax(1)
    matrix = torch.bincount(label * 4 + predicted, minlength=16).reshape(4, 4).numpy()
    averages = macro_averages(matrix)
    for name in ("precision", "recall"):
        expected = getattr(reference, f"multiclass_{name}")(predicted, label, 4, average="macro").item()
        assert averages[name] == pytest.approx(expected, abs=1e-6)
    expected = reference.multiclass_f1_score(predicted, label, 4, average="macro").item()
    assert averages["f1"] == pytest.approx(expected, abs=1e-6)
    probabilities = logits.double().softmax(1)
    error = reference.multiclass_calibration_error(probabilities, label, 4, n_bins=15).item()
    certainty, right = probabilities.max(1).values.numpy(), (predicted == label).numpy()
    assert calibration_error(certainty, right) == pytest.approx(error, abs=1e-6)
    clamped = predicted.clamp(max=2)
    three = torch.bincount(label * 3 + clamped, minlength=9).reshape(3, 3).numpy()
    assert mean_iou(three) == pytest.approx(
        reference.multiclass_jaccard_index(clamped, label, 3).item(), abs=1e-6
    )
