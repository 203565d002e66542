import json

import pytest
import torch

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
    assert [tuple(image_logits.shape) for image_logits in logits] == [(23, 32, 64)] * 2
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


def test_classes_of_one_segmenter_are_added_up_at_each_pixel(tmp_path):
    folder, ids = tiny.segmenter(tmp_path, classes=19), {i: min(i, 13) for i in range(19)}
    plain, mapped = (loaded(TransformersSegmentation("m", folder, class_map)) for class_map in (None, ids))
    (before,), (after,) = plain.predict([tiny.image(0)]), mapped.predict([tiny.image(0)])
    assert after.shape == (14, 32, 64)
    last = before.softmax(0)[13:].sum(0)
    # the one is enlarged before the sum, the other after it
    torch.testing.assert_close(after.softmax(0)[13], last, atol=0.05, rtol=0)


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
    assert [tuple(image_logits.shape) for image_logits in logits] == [(19, 32, 64)] * 2
    output = model._network(pixel_values=model._processor(images, return_tensors="pt")["pixel_values"])
    actual = model._processor.post_process_semantic_segmentation(output, [(32, 64)] * 2)
    assert (
        logits[0].argmax(0) == actual[0]
    ).float().mean() > 0.9  # the two enlarge the masks at different moments


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_mask_segmenter_computes_in_float32_on_a_cpu(tmp_path, dtype, caplog):
    folder = tiny.mask_segmenter(tmp_path)
    models = [TransformersMaskSegmentation("m", folder, dtype=d, device="cpu") for d in ("float32", dtype)]
    for model in models:
        model.load()
    wanted, found = (model.predict([tiny.image(0)])[0] for model in models)
    assert found.equal(wanted) and f"in {dtype} its masks would be wrong" in caplog.text


def test_a_mask_segmenter_that_transformers_4_saved_is_opened(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tiny.mask_segmenter(tmp_path)
    expected = loaded(TransformersMaskSegmentation("m", folder)).predict([tiny.image(0)])
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    unused = [name for name in weights if "swin.layernorm" in name]
    assert len(unused) == 2
    for name in unused:
        del weights[name]
    index = (
        "model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.relative_position_index"
    )
    save_file(weights | {index: torch.zeros(16, 16, dtype=torch.int64)}, path, {"format": "pt"})
    torch.testing.assert_close(
        loaded(TransformersMaskSegmentation("m", folder)).predict([tiny.image(0)]), expected
    )
    save_file(
        {name: value for name, value in weights.items() if "class_predictor" not in name},
        path,
        {"format": "pt"},
    )
    with pytest.raises(UserError, match="was not trained for this task: it lacks weights of Mask2Former"):
        loaded(TransformersMaskSegmentation("m", folder))


@pytest.mark.parametrize("kind", [TransformersMaskSegmentation, TransformersSegmentation])
def test_a_square_of_the_image_processor_does_not_squash_a_street(tmp_path, kind):
    """The published image processors of Mask2Former and SegFormer squash every image to a square."""
    build = tiny.mask_segmenter if kind is TransformersMaskSegmentation else tiny.segmenter
    folder = build(tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    settings["size"] = {"height": 384, "width": 384}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    street = tiny.image(0, (208, 128))
    as_published, in_proportion = loaded(kind("m", folder)), loaded(kind("m", folder, short_side=64))
    assert as_published._read_pixels([street]).shape[-2:] == (384, 384)
    assert in_proportion._read_pixels([street, street]).shape == (2, 3, 64, 96)
    (logits,) = in_proportion.predict([street])
    assert logits.shape[-2:] == (128, 208)
    same_size = loaded(kind("m", folder, short_side=128))
    expected = same_size._processor([street], do_resize=False, return_tensors="pt")["pixel_values"]
    assert same_size._read_pixels([tiny.image(0, (192, 128))]).shape == (1, 3, 128, 192)
    assert expected.shape[-2:] == (128, 208)  # 208 is no multiple of 32: the network would see another shape
    assert same_size._read_pixels([street]).shape == (1, 3, 128, 192)


def test_the_options_for_streets_keep_their_proportions():
    for option in ("mask2former_cityscapes", "segformer_cityscapes", "segformer_trainids"):
        assert composed(f"model={option}").model[option].short_side == 512
    for option in ("segmenter_cityscapes", "segmenter_trainids"):
        assert composed(f"validity={option}").validity.segmenter.short_side == 512
