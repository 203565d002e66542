"""The pixel error of all classes, beside the metrics of the classes that are scored."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from dillema import report
from tests.backends import Model, Noise, noise_image, run_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on noise whose class 2 is not scored."""
    path = tmp_path_factory.mktemp("run")
    dataset = Noise(ignored=frozenset({2}))
    run, _ = run_pipeline(path / "run", path / "store", dataset=dataset, models=[Model()], gates=[])
    report.write(run)
    return run


def count_originals():
    """Returns the confusion matrix of the originals over all classes, counted by hand."""
    matrix = np.zeros((3, 3), int)
    for i in range(6):
        truth = np.asarray(Image.open(io.BytesIO(noise_image(100 + i, 3))))
        predicted = np.asarray(Image.open(io.BytesIO(noise_image(i)))).argmax(-1)
        np.add.at(matrix, (truth.ravel(), predicted.ravel()), 1)
    return matrix


def test_all_classes_count_in_the_pixel_error_and_the_scored_ones_in_the_rest(folder):
    figures, matrix = folder.results["models"]["brightest"]["original"], count_originals()
    assert figures["pixel_error_all_classes"] == pytest.approx(1 - np.trace(matrix) / matrix.sum())
    scored = matrix[:2]
    assert figures["pixel_accuracy"] == pytest.approx(np.trace(scored) / scored.sum())
    assert figures["pixel_error_all_classes"] != pytest.approx(1 - figures["pixel_accuracy"])
    assert set(folder.results["models"]["brightest"]["per_class"]) == {"sky", "road"}


def test_the_file_has_the_full_matrix_and_the_page_the_scored_classes(folder):
    rows = list(csv.reader(io.StringIO((folder.path / "confusion_brightest.csv").read_text())))
    originals = np.array([row[2:] for row in rows[1:] if row[0] == "original"], int)
    np.testing.assert_array_equal(originals, count_originals())
    assert [row[1] for row in rows[1:4]] == ["sky", "road", "car"]
    page = (folder.path / "report.html").read_text()
    assert "pixel error all classes, scored or not" in page and 'class="confusion"' in page


def test_a_data_set_that_scores_all_classes_has_no_second_error(tmp_path):
    run, _ = run_pipeline(tmp_path / "run", tmp_path / "store", models=[Model()], gates=[])
    assert "pixel_error_all_classes" not in run.results["models"]["brightest"]["original"]
