"""Muon: an optimiser that moves every direction of a matrix of weights by the same amount.

It needs about half of the steps of AdamW. After Jordan et al., Muon: An optimizer for hidden layers in neural
networks, 2024; torch has it for matrices alone, and most of the weights here are convolutions.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 4
SMALLEST_SIDE = 8  # of a matrix; smaller ones are left to AdamW
UPDATE_SIZE = 0.2  # root mean square of an update in relation to the learning rate: that of AdamW


def split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns the parameters that Muon moves, and all others."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            is_matrix = isinstance(module, (nn.Linear, nn.Conv2d)) and parameter.ndim >= 2
            is_large = is_matrix and min(parameter.flatten(1).shape) >= SMALLEST_SIDE
            (matrices if is_large else others).append(parameter)
    return matrices, others


class Muon(torch.optim.Optimizer):
    """Moves matrices and convolutions, whose weights are matrices with a row for each output channel."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Moves all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                mean = state.setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(mean, group["momentum"]).flatten(1)
                size = UPDATE_SIZE * max(update.shape) ** 0.5
                direction = _orthogonalise(update).reshape(parameter.shape)
                parameter.add_(direction, alpha=-group["lr"] * size)


def _orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Returns the nearest matrix with equal singular values, roughly, by Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(ITERATIONS):
        product = x @ x.T
        x = a * x + (b * product + c * product @ product) @ x
    return (x.T if is_tall else x).to(matrix.dtype)
