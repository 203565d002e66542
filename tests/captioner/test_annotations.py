import numpy as np
import pytest

from dillema.captioner.annotations import AnnotationCaptioner, LabelCaptioner
from dillema.errors import ItemError
from tests import tiny


def caption(captioner, sample, dataset):
    (result,) = captioner.caption([sample], dataset, [0])
    return result.text


def test_the_label_is_named():
    dataset = tiny.dataset("classification", classes=("tench", "goldfish"))
    assert caption(LabelCaptioner(), tiny.sample(label=1), dataset) == "a photo of a goldfish"


def test_attributes_and_what_the_mask_shows_are_named_the_largest_first():
    mask = np.full((32, 64), 7, np.uint8)
    mask[:8] = 13
    mask[-4:] = 14  # ground, which is ignored
    mask[10, 10] = 4  # too small for a mention
    sample = tiny.sample(mask=mask, attributes={"weather": "rainy", "time of day": "night"})
    assert caption(AnnotationCaptioner(), sample, tiny.dataset()) == "a rainy night scene with road, sky"


def test_what_the_sample_lacks_is_named():
    with pytest.raises(ItemError, match=r"captioner.template names \{time of day\}; sample s knows only: weather"):
        AnnotationCaptioner("{weather} {time of day}").caption([tiny.sample(attributes={"weather": "clear"})], tiny.dataset(), [0])
