import pytest
import torch

from dillema.model.transformers import TransformersClassification, TransformersSegmentation
from tests import tiny


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return tiny.segmenter(tmp_path_factory.mktemp("segmenter"))


def loaded(model):
    model.load()
    return model


def test_logits_of_a_segmenter_have_the_size_of_the_image(segmenter):
    logits = loaded(TransformersSegmentation("m", segmenter)).predict([tiny.image(0), tiny.image(1)])
    assert [tuple(one.shape) for one in logits] == [(23, 32, 64)] * 2
    assert not torch.equal(logits[0], logits[1])


def test_a_class_map_adds_up_the_probabilities_of_classes_that_become_one(tmp_path):
    folder = tiny.classifier(tmp_path, classes=3)
    plain = loaded(TransformersClassification("m", folder)).predict([tiny.image(0), tiny.image(1)]).softmax(1)
    mapped = loaded(TransformersClassification("m", folder, class_map={0: 4, 1: 1, 2: 4})).predict([tiny.image(0), tiny.image(1)]).softmax(1)
    assert mapped.shape == (2, 5)
    torch.testing.assert_close(mapped[:, 4], plain[:, 0] + plain[:, 2])
    torch.testing.assert_close(mapped[:, 1], plain[:, 1])


def test_a_class_map_leaves_no_holes_in_a_segmentation(segmenter):
    (logits,) = loaded(TransformersSegmentation("m", segmenter, class_map=dict.fromkeys(range(23), 7) | {3: 9})).predict([tiny.image(0)])
    assert logits.isfinite().all()
    assert set(logits.argmax(0).unique().tolist()) <= {7, 9}


def test_bfloat16_gives_nearly_the_same_logits(tmp_path):
    folder = tiny.classifier(tmp_path)
    single, half = (loaded(TransformersClassification("m", folder, dtype=d)).predict([tiny.image(0)]) for d in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    torch.testing.assert_close(single, half, atol=0.1, rtol=0.1)
