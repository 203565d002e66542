"""Terrain, sidewalks, road and road lines."""

import numpy as np

from ..scene import CAMERA_HEIGHT, EDGE_WIDTH, FOCAL, HEIGHT, LANE_WIDTH, Scene
from .canvas import FAR, SCALE, Canvas
from .classes import ROAD, ROAD_LINE, SIDEWALK, TERRAIN
from .materials import Colour

NEAR = 1.0  # metres
LINES_END = 60.0  # metres; farther lines are thinner than a pixel
DASHES_END = 55.0
TYRE_TRACK: Colour = (0.36, 0.37, 0.4)  # in snow


def draw_ground(canvas: Canvas) -> None:
    """Draws all that is flat."""
    scene = canvas.scene
    left, right = scene.road
    grass, pavement, asphalt, line = _ground_colours(canvas)
    _fill_below_horizon(canvas, grass)
    canvas.fill_ground((left - scene.sidewalk, right + scene.sidewalk), (NEAR, FAR), pavement, SIDEWALK)
    kerb = (0.75 * pavement[0], 0.75 * pavement[1], 0.75 * pavement[2])
    canvas.fill_ground((left - 0.25, right + 0.25), (NEAR, FAR), kerb, SIDEWALK)
    canvas.fill_ground((left, right), (NEAR, FAR), asphalt, ROAD)
    if canvas.snowy:
        _draw_tyre_tracks(canvas)
    _draw_lines(canvas, line)


def _ground_colours(canvas: Canvas) -> tuple[Colour, Colour, Colour, Colour]:
    """Returns the colours of grass, pavement, asphalt and road lines."""
    if canvas.snowy:
        return (0.9, 0.92, 0.95), (0.8, 0.82, 0.85), (0.5, 0.51, 0.54), (0.74, 0.75, 0.77)
    grass, line = (0.27, 0.4, 0.17), (0.85, 0.85, 0.8)
    if canvas.rainy:
        return grass, (0.44, 0.43, 0.42), (0.2, 0.2, 0.21), line
    return grass, (0.6, 0.58, 0.55), (0.3, 0.3, 0.31), line


def _fill_below_horizon(canvas: Canvas, grass: Colour) -> None:
    horizon = int(np.ceil(canvas.scene.horizon * SCALE))
    rows = np.arange(horizon, HEIGHT * SCALE)
    below_horizon = np.maximum((rows + 0.5) / SCALE - canvas.scene.horizon, 0.01)
    canvas.classes[horizon:] = TERRAIN
    canvas.depth[horizon:] = np.minimum(FOCAL * CAMERA_HEIGHT / below_horizon, FAR)[:, None]
    canvas.albedo[horizon:] = [int(channel * 255) for channel in grass]


def _lane_edge(scene: Scene, lane: float) -> float:
    """Returns where the left edge of a lane lies."""
    return scene.road[0] + EDGE_WIDTH + lane * LANE_WIDTH


def _draw_tyre_tracks(canvas: Canvas) -> None:
    for lane in range(canvas.scene.lanes):
        x = _lane_edge(canvas.scene, lane + 0.5)
        for track in (-0.8, 0.8):
            canvas.fill_ground((x + track - 0.25, x + track + 0.25), (NEAR, FAR), TYRE_TRACK, ROAD)


def _draw_lines(canvas: Canvas, colour: Colour) -> None:
    scene = canvas.scene
    left, right = scene.road
    for x in (left + 0.3, right - 0.3):
        canvas.fill_ground((x - 0.08, x + 0.08), (NEAR, LINES_END), colour, ROAD_LINE)
    for lane in range(1, scene.lanes):
        x = _lane_edge(scene, lane)
        if lane == scene.lanes // 2 and scene.lanes > 2:  # the line between the directions is solid
            canvas.fill_ground((x - 0.1, x + 0.1), (NEAR, LINES_END), colour, ROAD_LINE)
            continue
        for z in np.arange(NEAR + canvas.rng.uniform(0, 5), DASHES_END, 6.0):
            canvas.fill_ground((x - 0.1, x + 0.1), (z, z + 3), colour, ROAD_LINE)
    if scene.crossing:
        for x in np.arange(left + 0.5, right - 0.6, 1.1):
            canvas.fill_ground((x, x + 0.55), (scene.crossing, scene.crossing + 2.8), colour, ROAD_LINE)
