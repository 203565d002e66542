"""What rain and snow add: reflections in a wet road, and precipitation between the camera and the scene."""

import cv2
import numpy as np

from ..scene import HEIGHT, WIDTH
from .canvas import SCALE, Array, Canvas
from .classes import ROAD, ROAD_LINE, SIDEWALK

STREAKS = 230
STREAK_SLANTS = 0.04  # of the streaks among themselves, standard deviation; they fall together
FLAKES = 230
REFLECTANCE = (0.1, 0.6)  # of a wet road under the camera and at the horizon


def reflect_in_road(canvas: Canvas, image: Array, classes: Array) -> Array:
    """Returns the image with a wet road, which mirrors what is above the horizon, more so the farther away.

    The mirror image is stretched, and varies from place to place: puddles and dry patches.
    """
    rows = np.arange(HEIGHT)
    horizon = canvas.scene.horizon
    mirrored_rows = np.clip(2 * horizon - rows, 0, HEIGHT - 1).astype(int)
    mirror = cv2.GaussianBlur(image[mirrored_rows], (0, 0), sigmaX=1.2, sigmaY=7)
    noise = canvas.rng.random((HEIGHT, WIDTH)).astype(np.float32)
    patches = cv2.GaussianBlur(noise, (0, 0), sigmaX=14, sigmaY=3)
    patches = np.clip(1 + (patches - 0.5) * 12, 0.55, 1.25)
    nearness = np.clip((rows - horizon) / (HEIGHT - horizon), 0, 1)
    near, far = REFLECTANCE
    reflectance = (far * (near / far) ** nearness)[:, None]
    wetness = np.isin(classes, (ROAD, ROAD_LINE)) * 1.0 + (classes == SIDEWALK) * 0.4
    weight = (wetness * patches * reflectance)[..., None].astype(np.float32)
    return image * (1 - 0.6 * weight) + mirror * weight


def add_precipitation(canvas: Canvas, image: Array) -> Array:
    """Returns the image behind streaks of rain or flakes of snow, of which near ones are larger."""
    night = canvas.appearance.time_of_day == "night"
    if canvas.rainy:
        colour, opacity = ((0.5, 0.54, 0.6), 0.45) if night else ((0.84, 0.86, 0.9), 0.75)
    else:
        colour, opacity = ((0.66, 0.68, 0.74), 0.8) if night else ((0.98, 0.98, 1.0), 1.0)
    cover = precipitation_cover(canvas.scene.seed, canvas.appearance.weather)[..., None] * opacity
    return image * (1 - cover) + np.array(colour, np.float32) * cover


def precipitation_cover(scene_seed: int, weather: str) -> Array:
    """Returns which share of each pixel rain or snow covers (160, 256), float32; they are taken as opaque."""
    rng = _precipitation_rng(scene_seed)
    layer = _draw_streaks(rng) if weather == "rainy" else _draw_flakes(rng)
    cover: Array = cv2.resize(layer, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return cover


def locate_precipitation(scene_seed: int, weather: str) -> Array:
    """Returns the centres (n, 2) of streaks or flakes in pixels, x and y, the largest first.

    Some are outside the image. There are none unless it is rainy or snowy.
    """
    rng = _precipitation_rng(scene_seed)
    if weather == "rainy":
        x, y, lengths, slants = _drop_streaks(rng)
        return np.stack([x + slants * lengths / 2, y + lengths / 2], 1)[np.argsort(-lengths)]
    if weather == "snowy":
        x, y, radii = _drop_flakes(rng)
        return np.stack([x, y], 1)[np.argsort(-radii)]
    return np.empty((0, 2))


def _precipitation_rng(scene_seed: int) -> np.random.Generator:
    return np.random.default_rng(scene_seed + 3)


def _drop_streaks(rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Returns upper ends, x and y, lengths in pixels and slants."""
    slants = rng.normal(rng.uniform(-0.2, 0.2), STREAK_SLANTS, STREAKS)
    x, y = rng.uniform(0, WIDTH, STREAKS), rng.uniform(-10, HEIGHT, STREAKS)
    return x, y, rng.uniform(4, 14, STREAKS), slants


def _drop_flakes(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Returns centres in pixels, x and y, and radii in pixels of the canvas."""
    x, y = rng.uniform(0, WIDTH, FLAKES), rng.uniform(0, HEIGHT, FLAKES)
    return x, y, rng.gamma(2.0, 0.55, FLAKES)


def _draw_streaks(rng: np.random.Generator) -> Array:
    """Returns how much of each pixel of the canvas rain covers, uint8."""
    layer = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
    for x, y, length, slant in zip(*_drop_streaks(rng), strict=True):
        start = (int(x * SCALE), int(y * SCALE))
        end = (int((x + slant * length) * SCALE), int((y + length) * SCALE))
        cv2.line(layer, start, end, 150 if length > 9 else 100, 1, cv2.LINE_AA)
    return layer


def _draw_flakes(rng: np.random.Generator) -> Array:
    """Returns how much of each pixel of the canvas snow covers, uint8."""
    layer = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
    for x, y, radius in zip(*_drop_flakes(rng), strict=True):
        cv2.circle(layer, (int(x * SCALE), int(y * SCALE)), max(1, int(radius)), 220, -1)
    return layer
