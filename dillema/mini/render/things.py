"""Trees, street lights and pedestrians: flat shapes that face the camera."""

from collections.abc import Callable

import cv2
import numpy as np

from ..scene import CAMERA_HEIGHT, FOCAL, Thing
from .canvas import SCALE, Array, Canvas
from .classes import PEDESTRIAN, POLE, VEGETATION
from .materials import MATERIAL, NO_GLOW, Colour

BARK: Colour = (0.3, 0.22, 0.15)
SNOW = np.array((0.86, 0.88, 0.9))
STEEL: Colour = (0.38, 0.4, 0.42)
LAMP: Colour = (0.8, 0.8, 0.75)
STREET_LIGHT_GLOW: Colour = (1.0, 0.88, 0.58)
LAMP_REACH = 4.5  # metres
TROUSERS: Colour = (0.15, 0.16, 0.24)


def _draw_tree(canvas: Canvas, tree: Thing) -> None:
    to_pixels = _upright(canvas, tree)
    rng = np.random.default_rng(tree.seed)
    height, trunk = tree.height, 0.07 * tree.height
    canvas.cast_shadow(tree.x, tree.z, height * 0.4, height * 0.5)
    stem = [[-trunk / 2, 0], [trunk / 2, 0], [trunk / 3, -0.5 * height], [-trunk / 3, -0.5 * height]]
    canvas.fill(to_pixels(stem), BARK, VEGETATION, tree.z)
    scale = FOCAL * SCALE / tree.z
    crown = canvas.project_ground(tree.x, tree.z) - [0, 0.62 * height * scale]
    blobs = [(rng.uniform(-0.16, 0.16), rng.uniform(-0.22, 0.2), rng.uniform(0.17, 0.24)) for _ in range(5)]
    circle = _circle(14)
    for light, shift, shrink in ((0.72, 0.0, 1.0), (1.0, -0.05, 0.72)):  # the lit leaves lie on the dark ones
        covered = canvas.snowy and light == 1.0
        colour = SNOW * (0.8 + 0.2 * light) if covered else np.array(tree.tint) * light
        for x, y, radius in blobs:
            leaves = (np.array([x, y + shift]) + circle * radius * shrink) * height * scale
            canvas.fill(crown + leaves, colour, VEGETATION, tree.z)


def _draw_street_light(canvas: Canvas, light: Thing) -> None:
    to_pixels = _upright(canvas, light)
    top, half = -light.height, 0.075
    arm = light.tint[0] * 1.4  # the sign of the tint says on which side the road lies
    pole = [[-half, 0], [half, 0], [half, top], [-half, top]]
    canvas.fill(to_pixels(pole), STEEL, POLE, light.z)
    start, end = sorted((0.0, arm))
    beam = [
        [start - half, top - 0.07],
        [end + half, top - 0.07],
        [end + half, top + 0.07],
        [start - half, top + 0.07],
    ]
    canvas.fill(to_pixels(beam), STEEL, POLE, light.z)
    head = [
        [arm - 0.32, top + 0.05],
        [arm + 0.32, top + 0.05],
        [arm + 0.22, top + 0.25],
        [arm - 0.22, top + 0.25],
    ]
    glow = STREET_LIGHT_GLOW if canvas.street_lights_on else NO_GLOW
    canvas.fill(to_pixels(head), LAMP, POLE, light.z, glow)
    if canvas.street_lights_on:
        _light_ground(canvas, light.x + arm, light.z)


def _light_ground(canvas: Canvas, x: float, z: float) -> None:
    """Adds the pool of light under a street light."""
    spot = canvas.project_ground(x, z) / SCALE
    axes = (max(1, int(LAMP_REACH * FOCAL / z)), max(1, int(LAMP_REACH * FOCAL * CAMERA_HEIGHT / z**2)))
    pool = np.zeros_like(canvas.lamp_pools)
    cv2.ellipse(pool, (int(spot[0]), int(spot[1])), axes, 0, 0, 360, 0.5, -1)
    canvas.lamp_pools = np.maximum(canvas.lamp_pools, pool)


def _draw_pedestrian(canvas: Canvas, pedestrian: Thing) -> None:
    to_pixels = _upright(canvas, pedestrian)
    height, z = pedestrian.height, pedestrian.z
    stride = np.random.default_rng(pedestrian.seed).uniform(0.04, 0.16)
    canvas.cast_shadow(pedestrian.x, z, 0.6, height * 0.5)
    for side in (-1, 1):
        foot, hip = side * stride, side * 0.09
        leg = [[foot - 0.08, 0], [foot + 0.08, 0], [hip + 0.08, -0.5 * height], [hip - 0.08, -0.5 * height]]
        canvas.fill(to_pixels(leg), TROUSERS, PEDESTRIAN, z)
    hips, shoulders = -0.45 * height, -0.82 * height
    torso = [[-0.2, hips], [0.2, hips], [0.25, shoulders], [-0.25, shoulders]]
    canvas.fill(to_pixels(torso), pedestrian.tint, PEDESTRIAN, z)
    head = _circle(10) * 0.13 + [0, -0.91 * height]
    canvas.fill(to_pixels(head), MATERIAL["skin"], PEDESTRIAN, z)


def _upright(canvas: Canvas, thing: Thing) -> Callable[[Array | list[list[float]]], Array]:
    """Returns what converts points (n, 2) in metres, right of and below the foot of a thing, to pixels."""
    scale = FOCAL * SCALE / thing.z
    foot = canvas.project_ground(thing.x, thing.z)
    return lambda points: np.asarray(points) * scale + foot


def _circle(corners: int) -> Array:
    """Returns a polygon (corners, 2) of radius 1."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


DRAW_THING: dict[str, Callable[[Canvas, Thing], None]] = {
    "tree": _draw_tree,
    "light": _draw_street_light,
    "pedestrian": _draw_pedestrian,
}
