"""Noise that tells where streaks of rain and flakes of snow are, and which windows are lit.

A generator of few steps cannot know it, and paints the mean: no streak, and a dim light in every window.
Noise that is coupled with the images tells it (couplings of noise and images: Pooladian et al., Multisample
Flow Matching, ICML 2023). It is still Gaussian noise, so that a sampler needs to know nothing of this.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..render.buildings import LIT_SHARE, locate_windows
from ..render.classes import BUILDING
from ..render.weather import locate_precipitation
from ..scene import HEIGHT, WIDTH, Appearance, sample_scene
from .loop import DEVICE, on_device
from .world import World

# Rows of pixels whose sum tells of a particle. Streaks are upright, and the networks see squares of four
# pixels: a column of such a square is easy for them to sum up.
ROWS = {"rainy": 4, "snowy": 1}


@dataclass(frozen=True)
class Particles:
    """Streaks or flakes of an image.

    Attributes:
        rows: Height in pixels of the places: an image has `HEIGHT // rows` rows of places.
        places: Numbers of different places, that of the largest particle first.
    """

    rows: int
    places: torch.Tensor


@dataclass(frozen=True)
class Windows:
    """Windows of an image.

    Attributes:
        pixels: Numbers of the pixels (p) that show one, int32.
        windows: Which window each of them shows (p), from 0, int32.
        lit: Whether each window is lit (n).
        share: Of windows that are lit, at that time of day.
    """

    pixels: torch.Tensor
    windows: torch.Tensor
    lit: torch.Tensor
    share: float


def locate_particles(world: World) -> dict[int, Particles]:
    """Returns the particles of each image with precipitation."""
    particles = {}
    for i, (seed, row) in enumerate(zip(world.seeds, world.rows, strict=True)):
        x, y = np.floor(locate_precipitation(seed, row["weather"])).astype(int).T
        is_inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
        rows = ROWS.get(row["weather"], 1)
        different = dict.fromkeys((y // rows * WIDTH + x)[is_inside].tolist())
        if different:
            particles[i] = Particles(rows, torch.tensor(list(different), device=DEVICE))
    return particles


def find_windows(world: World) -> dict[int, Windows]:
    """Returns the windows of each image in which some may be lit."""
    found = {}
    for i, (seed, row) in enumerate(zip(world.seeds, world.rows, strict=True)):
        share = LIT_SHARE[row["time_of_day"]]
        if not share:
            continue
        look = Appearance(row["weather"], row["time_of_day"], row["colour"])
        numbers, lit = locate_windows(sample_scene(seed, row["task"]), look)  # type: ignore[arg-type]
        pixels = np.flatnonzero(np.where(world.masks[i] == BUILDING, numbers, 0))
        shown, windows = np.unique(numbers.ravel()[pixels], return_inverse=True)
        found[i] = Windows(
            on_device(pixels.astype(np.int32)),
            on_device(windows.astype(np.int32)),
            on_device(lit[shown]),
            share,
        )
    return found


def move_brightest(noise: torch.Tensor, particles: Particles) -> None:
    """Moves the brightest places of noise (3, h, w) to those of particles, the brightest to the first.

    Noise stays noise: its values only change their places, and streaks and flakes may be anywhere.
    """
    channels, height, width = noise.shape
    shape = (channels, height // particles.rows, particles.rows, width)
    before = noise.view(shape).transpose(1, 2).flatten(2).flatten(0, 1)  # a column for each place
    brightest = before.sum(0).topk(len(particles.places)).indices
    left = brightest[~torch.isin(brightest, particles.places)]
    displaced = particles.places[~torch.isin(particles.places, brightest)]
    moved = before.clone()
    moved[:, particles.places], moved[:, left] = before[:, brightest], before[:, displaced]
    noise.view(shape).copy_(moved.view(channels, particles.rows, -1, width).transpose(1, 2))


def light_windows(noise: torch.Tensor, windows: Windows) -> None:
    """Gives each window that is lit a high mean of noise (3, h, w), and each other one a low mean.

    Noise stays noise: the means of Gaussian noise are Gaussian, whatever is left of it when they are taken
    away, and as many are above the threshold as windows are lit.
    """
    count = len(windows.lit)
    uniform = torch.rand(count, device=noise.device).clamp(1e-4, 1 - 1e-4)
    quantiles = torch.where(windows.lit, 1 - windows.share * uniform, (1 - windows.share) * uniform)
    values, pixels, owners = noise.flatten(1), windows.pixels.long(), windows.windows.long()
    sizes = torch.bincount(owners, minlength=count) * len(noise)
    sums = torch.zeros(count, device=noise.device).index_add_(0, owners, values[:, pixels].sum(0))
    shifts = torch.special.ndtri(quantiles) / sizes.sqrt() - sums / sizes
    values[:, pixels] += shifts[owners]
