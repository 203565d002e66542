import numpy as np
import pytest

from dillema.errors import ItemError
from dillema.validity.none import NoGate
from dillema.validity.segmenter import SegmenterGate
from tests import tiny


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    result = SegmenterGate(tiny.judge(tmp_path_factory.mktemp("judge")), min_agreement=0.6)
    result.load()
    return result


def seen(gate, image):
    return gate._segment([image])[0]


def test_an_image_agrees_wholly_with_what_the_segmenter_sees_and_less_with_another_mask(gate):
    image, dataset = tiny.image(0), tiny.dataset(ignored=frozenset())
    mask = seen(gate, image)
    other = (mask + 1) % 23
    scores = gate.score([tiny.sample(mask=mask), tiny.sample(mask=other)], [image, image], dataset)
    assert scores[0] == {"mask_agreement": 1.0}
    assert scores[1]["mask_agreement"] < 0.5
    assert [gate.verdict(s) for s in scores] == [True, False]


def test_the_threshold_decides_from_the_stored_score(gate):
    assert gate.verdict({"mask_agreement": 0.6})
    assert not gate.verdict({"mask_agreement": 0.59})
    assert "min_agreement" in gate.transient


def test_without_a_mask_the_original_image_is_the_measure(gate):
    dataset = tiny.dataset(ignored=frozenset())
    same, other = gate.score([tiny.sample(seed=3)] * 2, [tiny.image(3), tiny.image(4)], dataset)
    assert same["mask_agreement"] == 1.0
    assert other["mask_agreement"] < 1.0


def test_a_mask_of_another_size_is_brought_to_the_images(gate):
    image = tiny.image(0)
    mask = np.kron(seen(gate, image), np.ones((2, 2), np.uint8))
    assert gate.score([tiny.sample(mask=mask)], [image], tiny.dataset(ignored=frozenset())) == [{"mask_agreement": 1.0}]


def test_nothing_to_compare_is_an_error_of_the_sample(gate):
    with pytest.raises(ItemError, match="ignored classes only"):
        gate.score([tiny.sample(mask=np.zeros((32, 64), np.uint8))], [tiny.image(0)], tiny.dataset())


def test_no_gate_lets_everything_pass():
    (scores,) = NoGate().score([tiny.sample()], [tiny.image(0)], tiny.dataset())
    assert NoGate().verdict(scores)
