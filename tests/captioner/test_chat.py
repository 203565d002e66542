import pytest

from dillema.captioner.chat import ChatCaptioner
from dillema.config import build
from dillema.errors import UserError
from tests import tiny
from tests.captioner import checkpoints
from tests.test_config import composed


@pytest.fixture(scope="module", params=["qwen3_vl", "smolvlm"])
def folder(request, tmp_path_factory):
    if request.param == "smolvlm":
        pytest.importorskip("num2words")
    return getattr(checkpoints, request.param)(tmp_path_factory.mktemp(request.param))


def captions(captioner, names, seeds):
    captioner.load()
    return [
        c.text for c in captioner.caption([tiny.sample(n, seed=ord(n)) for n in names], tiny.dataset(), seeds)
    ]


def test_an_image_has_the_same_caption_in_every_batch(folder):
    options = [f"captioner.model={folder}", "captioner.max_new_tokens=8", "captioner.dtype=float32"]
    captioner = build(composed("captioner=qwen3_vl_2b", *options).captioner)
    batch_captions = captions(captioner, "abc", [1, 2, 3])
    assert captions(captioner, "cb", [8, 9]) == batch_captions[:0:-1]
    assert all(batch_captions)
    assert len(set(batch_captions)) > 1
    assert not any("photo" in text for text in batch_captions)  # the question is no part of the reply


def test_the_prompt_and_the_size_of_the_image_count(folder):
    texts = [
        captions(ChatCaptioner(folder, dtype="float32", max_new_tokens=8, **fields), "a", [0])
        for fields in ({}, {"prompt": "what?"}, {"longest_side": 16})
    ]
    assert texts[0] != texts[1]
    assert texts[0] != texts[2]


def test_sampled_captions_follow_their_own_seed(folder):
    captioner = ChatCaptioner(folder, dtype="float32", max_new_tokens=8, top_p=0.9)
    batch_captions = captions(captioner, "ab", [1, 2])
    assert captions(captioner, "ba", [2, 3])[0] == batch_captions[1]
    assert captions(captioner, "a", [3]) != batch_captions[:1]


def test_weights_can_be_quantised(folder):
    pytest.importorskip("bitsandbytes")
    settings = (
        f"captioner.model={folder}",
        "captioner.dtype=float32",
        "captioner.max_new_tokens=8",
        "captioner.device=cpu",
    )
    quantised = "captioner.quantization={quant_method: bitsandbytes, load_in_8bit: true}"
    captioner = build(composed("captioner=qwen3_vl_2b", quantised, *settings).captioner)
    assert captions(captioner, "a", [0])[0]
    assert any(type(layer).__name__ == "Linear8bitLt" for layer in captioner._network.modules())


def test_a_model_without_a_chat_template_is_named(tmp_path):
    with pytest.raises(UserError, match="has no chat template"):
        captions(ChatCaptioner(checkpoints.blip(tmp_path)), "a", [0])


def test_an_image_is_cut_into_as_many_tiles_as_its_longest_side_needs(tmp_path):
    """As in SmolVLM2, whose processor enlarges every image to 2048 pixels, 4 tiles along each side."""
    pytest.importorskip("num2words")
    folder = checkpoints.smolvlm(tmp_path, tiles=4)
    image = tiny.sample(seed=1).image.resize((64, 64))
    tiles = []
    for longest_side in (16, 64, 1000):
        captioner = ChatCaptioner(folder, longest_side=longest_side, dtype="float32")
        captioner.load()
        inputs = captioner._processor(images=[[image]], text=["<image>"], return_tensors="pt")
        tiles.append(inputs["pixel_values"].shape[1])
    assert tiles == [1, 2 * 2 + 1, 4 * 4 + 1]  # and the whole image, small
