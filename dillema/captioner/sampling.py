"""Nucleus sampling in which the draws of an item do not depend on its batch."""

from collections.abc import Callable, Sequence
from typing import Any


def nucleus(top_p: float, seeds: Sequence[int], rows: int) -> dict[str, Any]:
    """Returns arguments with which generate() samples `rows` texts an item from the nucleus of mass `top_p`.

    The draws of an item depend only on its seed. generate() itself draws for all rows from one global
    generator, so that a text would depend on the other items of the batch. Nucleus sampling: Holtzman et al.
    2020, arXiv 1904.09751.
    """
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns the scores with all but one token of each row at minus infinity."""
        probabilities, order = scores.float().softmax(-1).sort(dim=-1, descending=True, stable=True)
        mass_before = probabilities.cumsum(-1) - probabilities
        nucleus_mass = probabilities.masked_fill(mass_before >= top_p, 0).sum(-1, keepdim=True)
        draws = torch.cat([torch.rand(rows, 1, generator=g) for g in generators]).to(scores.device)
        position = (mass_before <= draws * nucleus_mass).sum(-1, keepdim=True) - 1
        return torch.full_like(scores, float("-inf")).scatter(-1, order.gather(-1, position), 0)

    processors: list[Callable[..., torch.Tensor]] = [choose]
    return {
        "do_sample": True,
        "num_beams": 1,
        "top_k": 0,
        "top_p": 1.0,
        "num_return_sequences": rows,
        "logits_processor": processors,
    }
