import pytest
import torch

from dillema.captioner.sampling import nucleus

PROBABILITIES = torch.tensor([0.2, 0.5, 0.3])


def draw_tokens(top_p, times):
    (choose,) = nucleus(top_p, range(times), 1)["logits_processor"]
    return torch.bincount(choose(None, PROBABILITIES.log().expand(times, 3)).argmax(-1), minlength=3) / times


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(1.0, [0.2, 0.5, 0.3]), (0.7, [0, 0.625, 0.375]), (0.5, [0, 1, 0]), (0.1, [0, 1, 0])],
)
def test_tokens_are_drawn_as_often_as_their_share_of_the_nucleus(top_p, expected):
    assert draw_tokens(top_p, 4000).tolist() == pytest.approx(expected, abs=0.03)
