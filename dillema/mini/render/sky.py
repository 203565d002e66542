"""The sky, with clouds, stars and a moon."""

from typing import NamedTuple

import cv2
import numpy as np

from ..scene import HEIGHT, WIDTH, Appearance, Scene
from .canvas import Array
from .materials import Colour


class Gradient(NamedTuple):
    """The colour of the sky straight above and at the horizon; fog has the colour of the horizon."""

    zenith: Colour
    horizon: Colour


SKY_COLOURS: dict[tuple[str, str], Gradient] = {
    ("clear", "daytime"): Gradient((0.2, 0.47, 0.88), (0.72, 0.86, 0.97)),
    ("cloudy", "daytime"): Gradient((0.56, 0.59, 0.64), (0.78, 0.79, 0.8)),
    ("rainy", "daytime"): Gradient((0.33, 0.36, 0.41), (0.5, 0.52, 0.55)),
    ("foggy", "daytime"): Gradient((0.78, 0.8, 0.81), (0.8, 0.81, 0.82)),
    ("snowy", "daytime"): Gradient((0.68, 0.72, 0.78), (0.86, 0.88, 0.91)),
    ("clear", "dusk"): Gradient((0.22, 0.2, 0.48), (1.0, 0.52, 0.22)),
    ("cloudy", "dusk"): Gradient((0.33, 0.28, 0.38), (0.74, 0.46, 0.4)),
    ("rainy", "dusk"): Gradient((0.2, 0.18, 0.25), (0.4, 0.3, 0.31)),
    ("foggy", "dusk"): Gradient((0.58, 0.46, 0.48), (0.66, 0.5, 0.47)),
    ("snowy", "dusk"): Gradient((0.38, 0.36, 0.5), (0.76, 0.58, 0.58)),
    ("clear", "night"): Gradient((0.012, 0.02, 0.07), (0.05, 0.07, 0.16)),
    ("cloudy", "night"): Gradient((0.07, 0.065, 0.07), (0.15, 0.125, 0.11)),
    ("rainy", "night"): Gradient((0.025, 0.03, 0.04), (0.06, 0.065, 0.075)),
    ("foggy", "night"): Gradient((0.13, 0.135, 0.145), (0.17, 0.17, 0.175)),
    ("snowy", "night"): Gradient((0.09, 0.1, 0.15), (0.2, 0.2, 0.25)),
}


class Clouds(NamedTuple):
    """Clouds stand where smooth noise exceeds `threshold`; `contrast` sharpens their edges."""

    threshold: float
    contrast: float
    max_cover: float
    colours: dict[str, Colour]


CLOUDS = {
    "clear": Clouds(0.62, 5, 0.7, {"daytime": (0.93, 0.94, 0.96), "dusk": (0.92, 0.6, 0.5)}),
    "cloudy": Clouds(
        0.42, 4, 0.85, {"daytime": (0.93, 0.94, 0.96), "dusk": (0.5, 0.38, 0.42), "night": (0.25, 0.21, 0.18)}
    ),
}
OCTAVES = ((6, 5, 0.55), (12, 10, 0.3), (26, 20, 0.15))  # rows, columns and weight of the noise of clouds


def draw_sky(scene: Scene, appearance: Appearance) -> Array:
    """Returns the sky (height, width, 3), float32 from 0 to 1, without what hides it."""
    weather, time = appearance.weather, appearance.time_of_day
    zenith, horizon = (np.array(colour, np.float32) for colour in SKY_COLOURS[weather, time])
    t = np.clip(np.arange(HEIGHT) / scene.horizon, 0, 1)[:, None, None] ** 1.5
    sky: Array = np.broadcast_to(zenith * (1 - t) + horizon * t, (HEIGHT, WIDTH, 3)).copy()
    rng = np.random.default_rng(scene.seed + 2)
    if weather in CLOUDS:
        noise = _smooth_noise(rng)  # drawn on clear nights too: stars and moon follow it
        clouds = CLOUDS[weather]
        if time in clouds.colours:
            cover = np.clip((noise - clouds.threshold) * clouds.contrast, 0, clouds.max_cover)[..., None]
            sky = sky * (1 - cover) + np.array(clouds.colours[time], np.float32) * cover
    if (weather, time) == ("clear", "night"):
        _draw_stars(sky, rng)
    return sky


def _smooth_noise(rng: np.random.Generator) -> Array:
    """Returns noise (height, width) of several spatial frequencies."""
    layers = [rng.random((rows, columns)).astype(np.float32) for rows, columns, _ in OCTAVES]
    large = [cv2.resize(layer, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for layer in layers]
    weighted = [layer * weight for layer, (_, _, weight) in zip(large, OCTAVES, strict=True)]
    return np.add(np.add(weighted[0], weighted[1]), weighted[2])


def _draw_stars(sky: Array, rng: np.random.Generator) -> None:
    stars = rng.random((HEIGHT, WIDTH)) < 0.008
    sky[stars] = rng.uniform(0.4, 0.95, (int(stars.sum()), 1))
    moon = (int(rng.uniform(70, 190)), int(rng.uniform(10, 28)))
    cv2.circle(sky, moon, 5, (0.9, 0.9, 0.8), -1, lineType=cv2.LINE_AA)
