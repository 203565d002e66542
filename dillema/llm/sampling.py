"""Samples tokens so that the choice in a row depends neither on its batch nor on rounding."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NOISE = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.25}
"""By how much rounding may change a logit when a row is computed in another batch."""


class Sampler:
    """Takes one token a row from the nucleus of mass `top_p`, by the Gumbel-max trick.

    The noise of a row follows from its seed. A row is doubtful once another token would have been taken if
    the logits differed by `noise`: its text must be computed again, in a batch of its own.
    Nucleus sampling: Holtzman et al. 2020, arXiv 1904.09751.

    Attributes:
        doubtful: The rows whose choice rounding can change.
    """

    def __init__(
        self, temperature: float, top_p: float, seeds: Sequence[int], noise: float, end_tokens: Sequence[int]
    ):
        import torch

        self.doubtful: set[int] = set()
        self._temperature = temperature
        self._top_p = top_p
        self._noise = noise
        self._end_tokens = set(end_tokens)
        self._finished: set[int] = set()
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, tokens: "Tensor", scores: "Tensor") -> "Tensor":
        """Returns the scores (rows, tokens) with all but the token taken at minus infinity."""
        import torch

        logits = scores.float()
        if not self._temperature:
            keys, slack = logits, 2 * self._noise
            choices = [logits]
        else:
            draws = torch.stack([torch.rand(logits.shape[1], generator=g) for g in self._generators])
            keys = logits / self._temperature - (-draws.clamp_min(1e-12).log()).log().to(logits.device)
            slack = 2 * self._noise / self._temperature
            choices = [keys.masked_fill(~nucleus, float("-inf")) for nucleus in self._nuclei(logits)]
        best = choices[0].topk(2, dim=-1)
        is_close = best.values[:, 0] - best.values[:, 1] < slack
        for other in choices[1:]:
            is_close |= other.argmax(-1) != best.indices[:, 0]
        taken = best.indices[:, :1]
        self.doubtful |= set(is_close.nonzero().flatten().tolist()) - self._finished
        self._finished |= {row for row, token in enumerate(taken[:, 0].tolist()) if token in self._end_tokens}
        return torch.full_like(scores, float("-inf")).scatter(-1, taken, 0)

    def _nuclei(self, logits: "Tensor") -> list["Tensor"]:
        """Returns which tokens belong to the nucleus: as it is, and if rounding made it smaller or larger."""
        probabilities, order = (logits / self._temperature).softmax(-1).sort(descending=True, stable=True)
        mass_before = probabilities.cumsum(-1) - probabilities
        slack = min(self._noise / self._temperature, 0.5)
        nuclei = []
        for top_p in (self._top_p, self._top_p - slack, self._top_p + slack):
            is_inside = mass_before < top_p
            is_inside[:, 0] = True
            nuclei.append(is_inside.new_zeros(is_inside.shape).scatter(-1, order, is_inside))
        return nuclei
