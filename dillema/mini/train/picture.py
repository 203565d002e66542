"""How far a picture is from the true one: in pixels, and in what an observer reads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..render import PEDESTRIAN, POLE, ROAD_LINE, VEGETATION, VEHICLE

CLASS_WEIGHTS = {VEHICLE: 3.0, PEDESTRIAN: 4.0, POLE: 4.0, ROAD_LINE: 1.5, VEGETATION: 1.5}


def pixel_weights(labels: torch.Tensor) -> torch.Tensor:
    """Returns how much each pixel counts (n, 1, h, w), from class ids (n, h, w): small objects count more."""
    weights = torch.ones(256, device=labels.device)
    for class_id, weight in CLASS_WEIGHTS.items():
        weights[class_id] = weight
    return weights[labels][:, None]


def perceptual_error(
    observer: nn.Module, expected: torch.Tensor, output: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Returns the Kullback-Leibler divergence of the observer's reading of an output from the expected one.

    `expected` are log probabilities (n, classes, h, w). The observer learns nothing from it.
    """
    with _frozen(observer):
        reading = observer(output)
    return (weight * (expected.exp() * (expected - reading)).sum(1, keepdim=True)).mean()


def reconstruction_error(images: torch.Tensor, output: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Returns the L1 error of pixels and of their gradients, weighted by pixel.

    Small objects weigh more, since their colours fade first. The error is taken of the values and of their
    asinh, in units of each image's contrast: else trees at night and in fog would hardly count.
    """
    weight = weight * 0.45 / (images.std((1, 2, 3), keepdim=True) + 0.1)
    output, images = (torch.cat([x, torch.asinh(5 * (x + 1)) / 3], 1) for x in (output, images))
    error = (weight * (output - images).abs()).mean()
    for axis in (2, 3):
        gradient_error = (output.diff(dim=axis) - images.diff(dim=axis)).abs()
        inner_weight = weight.narrow(axis, 0, weight.shape[axis] - 1)
        error = error + 0.5 * (inner_weight * gradient_error).mean()
    return error


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Within the context, no gradient reaches the weights of a network that learns otherwise."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
