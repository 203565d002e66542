import pytest
import torch
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

from dillema.captioner.transformers import TransformersCaptioner
from dillema.errors import UserError
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.captioner(tmp_path_factory.mktemp("captioner"))


def captions(captioner, names, seeds):
    captioner.load()
    return [caption.text for caption in captioner.caption([tiny.sample(n, seed=i) for i, n in enumerate(names)], tiny.dataset(), seeds)]


def test_greedy_captions_do_not_depend_on_seeds(folder):
    captioner = TransformersCaptioner(folder, max_new_tokens=8)
    first = captions(captioner, "abc", [1, 2, 3])
    assert len(first) == 3
    assert all(first)
    assert captions(captioner, "abc", [4, 5, 6]) == first


def test_sampled_captions_follow_their_own_seed_wherever_they_stand(folder):
    captioner = TransformersCaptioner(folder, num_captions=2, top_p=0.9, max_new_tokens=8)
    together = captions(captioner, "ab", [1, 2])
    assert captions(captioner, "ab", [1, 3])[0] == together[0]
    assert captions(captioner, "ab", [1, 3])[1] != together[1]
    assert ". " in together[0]


def test_several_captions_need_sampling(folder):
    with pytest.raises(UserError, match="need sampling"):
        TransformersCaptioner(folder, num_captions=2)


def test_blip_goes_the_same_way(tmp_path):
    torch.manual_seed(0)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *"abcdefghijklmnopqrstuvwxyz"]))
    small = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BlipConfig(
        text_config=small | {"vocab_size": 32, "encoder_hidden_size": 32, "bos_token_id": 5, "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3},
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=32,
    )
    BlipForConditionalGeneration(config).save_pretrained(tmp_path)
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert len(captions(TransformersCaptioner(str(tmp_path), max_new_tokens=6), "ab", [1, 2])) == 2
