import numpy as np
import pytest

from dillema.captioner.annotations import AnnotationCaptioner, LabelCaptioner
from dillema.errors import ItemError, UserError
from tests import tiny


def caption(captioner, sample, dataset):
    (caption,) = captioner.caption([sample], dataset, [0])
    return caption.text


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


def test_what_a_sample_lacks_is_the_error_of_that_sample():
    samples = [
        tiny.sample(attributes={"weather": "clear", "time of day": "night"}),
        tiny.sample(attributes={"weather": "clear"}),
    ]
    captioner = AnnotationCaptioner("{weather} {time of day}")
    first, second = captioner.caption(samples, tiny.dataset(), [0, 0])
    assert first.text == "clear night"
    assert isinstance(second, ItemError)
    assert str(second) == (
        "captioner.template names {time of day}; sample s has: weather. Name only these, as in "
        "captioner.template='a photo, {weather}'"
    )


def test_a_template_with_a_mistake_ends_the_run():
    with pytest.raises(UserError, match=r"captioner\.template '\{weather': "):
        AnnotationCaptioner("{weather").caption(
            [tiny.sample(attributes={"weather": "clear"})], tiny.dataset(), [0]
        )
