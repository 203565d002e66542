import pytest

from dillema.captioner.transformers import TransformersCaptioner
from dillema.config import build
from dillema.errors import UserError
from tests import tiny
from tests.captioner import checkpoints
from tests.test_config import composed

OPTIONS = {
    "mini": tiny.captioner,
    "blip": checkpoints.blip,
    "blip2_opt67b": checkpoints.blip2,
    "git": checkpoints.git,
    "vit_gpt2": checkpoints.vit_gpt2,
    "florence2": checkpoints.florence2,
}


@pytest.fixture(scope="module", params=OPTIONS)
def captioner(request, tmp_path_factory):
    """An option of the configuration with a small checkpoint in the place of its own."""
    option = request.param
    folder = OPTIONS[option](tmp_path_factory.mktemp(option))
    captioner = build(
        composed(
            f"captioner={option}",
            f"captioner.model={folder}",
            "captioner.max_new_tokens=8",
            "captioner.dtype=float32",
        ).captioner
    )
    captioner.load()
    return captioner


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.captioner(tmp_path_factory.mktemp("captioner"))


def captions(captioner, names, seeds):
    return [
        caption.text
        for caption in captioner.caption([tiny.sample(n, seed=ord(n)) for n in names], tiny.dataset(), seeds)
    ]


def test_an_image_has_the_same_caption_in_every_batch(captioner):
    batch_captions = captions(captioner, "abc", [1, 2, 3])
    assert captions(captioner, "cb", [3, 2]) == batch_captions[:0:-1]
    assert all(batch_captions)
    assert len(set(batch_captions)) > 1
    if captioner.num_captions == 2:
        assert ". " in batch_captions[0]
        assert captions(captioner, "a", [4]) != batch_captions[:1]
    else:
        assert captions(captioner, "a", [4]) == batch_captions[:1]


def test_sampled_captions_follow_their_own_seed(folder):
    captioner = TransformersCaptioner(folder, num_captions=2, top_p=0.9, max_new_tokens=8)
    captioner.load()
    batch_captions = captions(captioner, "ab", [1, 2])
    assert captions(captioner, "ab", [1, 3])[0] == batch_captions[0]
    assert captions(captioner, "ab", [1, 3])[1] != batch_captions[1]


def test_the_prompt_is_the_beginning_that_a_caption_goes_on_from(tmp_path):
    folder = checkpoints.blip(tmp_path)
    without, prompted, other = (
        TransformersCaptioner(folder, prompt, max_new_tokens=8) for prompt in ("", "a", "b")
    )
    for captioner in (without, prompted, other):
        captioner.load()
    texts = [captions(captioner, "a", [0])[0] for captioner in (without, prompted, other)]
    assert len(set(texts)) == 3
    assert all(texts)


def test_several_captions_need_sampling(folder):
    with pytest.raises(UserError, match="need sampling"):
        TransformersCaptioner(folder, num_captions=2)
