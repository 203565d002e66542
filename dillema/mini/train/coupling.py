"""Noise that tells where streaks of rain and flakes of snow are.

A generator of few steps cannot know where they are, and paints their mean: none. Noise that is coupled with
the images tells it (couplings of noise and images: Pooladian et al., Multisample Flow Matching, ICML 2023).
"""

import numpy as np
import torch

from ..render.weather import locate_precipitation
from ..scene import HEIGHT, WIDTH
from .loop import DEVICE
from .world import World


def locate_particles(world: World) -> dict[int, torch.Tensor]:
    """Returns for each image with precipitation the pixels of its streaks or flakes, the largest first."""
    places = {}
    for i, (seed, row) in enumerate(zip(world.seeds, world.rows, strict=True)):
        x, y = np.floor(locate_precipitation(seed, row["weather"])).astype(int).T
        is_inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
        different = dict.fromkeys((y * WIDTH + x)[is_inside].tolist())
        if different:
            places[i] = torch.tensor(list(different), device=DEVICE)
    return places


def move_brightest(noise: torch.Tensor, places: torch.Tensor) -> None:
    """Moves the brightest pixels of noise (3, h, w) to different places, the brightest of them to the first.

    Noise stays noise: its pixels only change their places, and streaks and flakes may be anywhere.
    """
    before = noise.flatten(1)
    brightest = before.sum(0).topk(len(places)).indices
    left = brightest[~torch.isin(brightest, places)]
    displaced = places[~torch.isin(places, brightest)]
    moved = before.clone()
    moved[:, places], moved[:, left] = before[:, brightest], before[:, displaced]
    noise.copy_(moved.view_as(noise))
