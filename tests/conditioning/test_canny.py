import numpy as np

from dillema.conditioning.canny import Canny
from dillema.types import Sample
from tests import tiny


def test_edges_are_white_where_the_image_changes_and_black_elsewhere():
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, 100:] = 255
    sample = Sample("s", lambda: tiny.png(pixels))
    control = Canny(weight=0.7).control(sample, tiny.dataset(), (100, 50))
    edges = np.asarray(control.image)
    assert control.weight == 0.7
    assert edges.shape == (50, 100, 3)
    assert set(np.unique(edges)) == {0, 255}
    assert set(np.nonzero(edges.any((0, 2)))[0]) <= {48, 49, 50, 51}
