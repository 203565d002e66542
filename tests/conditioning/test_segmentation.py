import numpy as np
import pytest

from dillema.conditioning.segmentation import Segmentation
from dillema.errors import ItemError, UserError
from tests import tiny

ROAD, SKY = 7, 13


@pytest.fixture
def sample():
    mask = np.full((32, 64), ROAD, np.uint8)
    mask[:16] = SKY
    return tiny.sample(mask=mask)


@pytest.mark.parametrize(
    ("palette", "sky", "road"),
    [("dataset", (70, 130, 180), (128, 64, 128)), ("ade20k", (6, 230, 230), (140, 140, 140))],
)
def test_the_mask_is_painted_in_the_colours_of_the_palette_and_no_others(sample, palette, sky, road):
    control = Segmentation(palette, weight=0.5).control(sample, tiny.dataset(), (40, 24))
    assert control.weight == 0.5
    assert control.image.size == (40, 24)
    assert {tuple(c) for c in np.asarray(control.image).reshape(-1, 3)} == {sky, road}
    assert control.image.getpixel((20, 2)) == sky


def test_a_sample_without_a_mask_sends_the_user_to_another_conditioning():
    with pytest.raises(UserError, match="conditioning=canny"):
        Segmentation().control(tiny.sample(), tiny.dataset(), (40, 24))


def test_an_unknown_class_id_is_an_error_of_its_sample():
    mask = np.full((32, 64), 99, np.uint8)
    with pytest.raises(ItemError, match=r"mask of s holds class ids that tiny does not have: \[99\]"):
        Segmentation().control(tiny.sample(mask=mask), tiny.dataset(), (40, 24))
    Segmentation().control(tiny.sample(mask=mask), tiny.dataset(ignored=frozenset({99})), (40, 24))


def test_ade20k_is_refused_for_classes_that_it_does_not_have(sample):
    with pytest.raises(UserError, match="palette=dataset"):
        Segmentation("ade20k").control(
            sample, tiny.dataset(classes=tuple(f"part {i}" for i in range(23))), (40, 24)
        )


def test_other_data_sets_are_painted_by_the_names_of_their_classes(sample):
    names = ["truck" if i == ROAD else "bus" if i == SKY else f"part {i}" for i in range(23)]
    control = Segmentation("ade20k").control(sample, tiny.dataset(classes=tuple(names)), (40, 24))
    assert {tuple(c) for c in np.asarray(control.image).reshape(-1, 3)} == {(255, 0, 20), (255, 0, 245)}
