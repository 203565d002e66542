import pytest
import torch

from dillema.config import build
from dillema.errors import UserError
from dillema.model.transformers import (
    TransformersClassification,
    TransformersMaskSegmentation,
    TransformersSegmentation,
)
from tests import tiny
from tests.test_config import composed


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
    mapped = (
        loaded(TransformersClassification("m", folder, class_map={0: 4, 1: 1, 2: 4}))
        .predict([tiny.image(0), tiny.image(1)])
        .softmax(1)
    )
    assert mapped.shape == (2, 5)
    torch.testing.assert_close(mapped[:, 4], plain[:, 0] + plain[:, 2])
    torch.testing.assert_close(mapped[:, 1], plain[:, 1])


def test_a_class_map_leaves_no_holes_in_a_segmentation(segmenter):
    (logits,) = loaded(
        TransformersSegmentation("m", segmenter, class_map=dict.fromkeys(range(23), 7) | {3: 9})
    ).predict([tiny.image(0)])
    assert logits.isfinite().all()
    assert set(logits.argmax(0).unique().tolist()) <= {7, 9}


def test_bfloat16_gives_nearly_the_same_logits(tmp_path):
    folder = tiny.classifier(tmp_path)
    single, half = (
        loaded(TransformersClassification("m", folder, dtype=d)).predict([tiny.image(0)])
        for d in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    torch.testing.assert_close(single, half, atol=0.1, rtol=0.1)


def test_cityscapes_classes_become_those_of_shift(tmp_path):
    cfg = composed(
        "model=segformer_cityscapes",
        f"model.segformer_cityscapes.model={tiny.segmenter(tmp_path, classes=19)}",
    )
    plain, mapped = (
        loaded(TransformersSegmentation("m", str(tmp_path), c))
        for c in (None, build(cfg.model.segformer_cityscapes).class_map)
    )
    (before,), (after,) = plain.predict([tiny.image(0)]), mapped.predict([tiny.image(0)])
    assert after.shape == (23, 32, 64)
    assert set(after.argmax(0).unique().tolist()) <= {1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 18, 22}
    vehicles = before.softmax(0)[13:19].sum(0)
    torch.testing.assert_close(
        after.softmax(0)[10], vehicles, atol=0.05, rtol=0
    )  # the one is enlarged before, the other after


def test_classes_go_by_their_names_too(tmp_path):
    folder = tiny.classifier(tmp_path, classes=3)
    by_id, by_name = ({0: 4, 1: 1, 2: 4}, {"LABEL_0": 4, "LABEL_1": 1, "LABEL_2": 4})
    torch.testing.assert_close(
        *(
            loaded(TransformersClassification("m", folder, class_map=m)).predict([tiny.image(0)])
            for m in (by_id, by_name)
        )
    )
    with pytest.raises(UserError, match="no class 'cat'; it has 3, called LABEL_0, LABEL_1, LABEL_2"):
        loaded(TransformersClassification("m", folder, class_map={"cat": 0})).predict([tiny.image(0)])


def test_masks_with_a_class_each_become_a_segmentation(tmp_path):
    folder, images = tiny.mask_segmenter(tmp_path), [tiny.image(0), tiny.image(1)]
    model = loaded(TransformersMaskSegmentation("m", folder))
    logits = model.predict(images)
    assert [tuple(one.shape) for one in logits] == [(19, 32, 64)] * 2
    output = model._network(pixel_values=model._processor(images, return_tensors="pt")["pixel_values"])
    found = model._processor.post_process_semantic_segmentation(output, [(32, 64)] * 2)
    assert (
        logits[0].argmax(0) == found[0]
    ).float().mean() > 0.9  # the two enlarge the masks at different moments
