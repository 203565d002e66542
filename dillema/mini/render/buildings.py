"""Buildings with windows."""

import numpy as np

from ..scene import FOCAL, WIDTH, Building
from .canvas import SCALE, Array, Canvas, Face
from .classes import BUILDING
from .materials import Colour

FLOOR_HEIGHT = 3  # metres
WINDOW_WIDTH = 2.6  # metres of wall for each window
LIT_SHARE = {"daytime": 0.0, "dusk": 0.35, "night": 0.55}  # of the windows
DARK_WINDOW = np.array((0.3, 0.36, 0.42))
LIT_WINDOW: Colour = (0.9, 0.75, 0.45)
WINDOW_GLOW: Colour = (0.95, 0.72, 0.32)
SNOW: Colour = (0.95, 0.96, 0.98)
MIN_FLOOR_PIXELS = 3.5  # windows of smaller floors are smaller than a pixel


def draw_building(canvas: Canvas, building: Building) -> None:
    """Draws a building; some of its windows are lit after sunset."""
    x = sorted((building.x0, building.x1))
    ground_plan = ((x[0], building.z0), (x[1], building.z0), (x[1], building.z1), (x[0], building.z1))
    corners = np.array([[along, up, ahead] for up in (0.0, building.height) for along, ahead in ground_plan])
    rng = np.random.default_rng(building.seed)
    wall = np.array(building.wall) * (0.9 if canvas.rainy else 1)
    for face in canvas.draw_box(corners, wall, BUILDING):
        if face.name == "top":
            continue
        _draw_windows(canvas, building, face, rng)
        if canvas.snowy:
            _draw_snow(canvas, building, face)
    _set_facade_depth(canvas, building, max(float(corners[:, 2].mean()), 1.0))


def _draw_windows(canvas: Canvas, building: Building, face: Face, rng: np.random.Generator) -> None:
    floors = max(1, int(building.height // FLOOR_HEIGHT))
    depth, width = building.z1 - building.z0, abs(building.x1 - building.x0)
    columns = max(2, int((depth if face.name in ("left", "right") else width) // WINDOW_WIDTH))
    centres = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(floors) + 0.5) / floors)
    u, v = (grid.ravel() for grid in centres)
    half_width, half_height = 0.27 / columns, 0.27 / floors
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    corners = np.stack([face.points(u + a * half_width, v + b * half_height) for a, b in signs], 1)
    windows = canvas.project(corners.reshape(-1, 3)).reshape(-1, 4, 2)
    lit = rng.random(len(windows)) < LIT_SHARE[canvas.appearance.time_of_day]
    if FOCAL * FLOOR_HEIGHT / max(face.corners[:, 2].min(), 1.0) > MIN_FLOOR_PIXELS:
        dark_colour = DARK_WINDOW * face.brightness
        canvas.fill_details(windows[~lit], dark_colour)
        canvas.fill_details(windows[lit], LIT_WINDOW, WINDOW_GLOW)


def _draw_snow(canvas: Canvas, building: Building, face: Face) -> None:
    """Draws the snow on the edge of the roof."""
    height = min(0.9, building.height * 0.08) / building.height
    edge = face.points(np.array([0, 1, 1, 0]), np.array([1 - height, 1 - height, 1, 1]))
    canvas.fill_details([canvas.project(edge)], SNOW)


def _set_facade_depth(canvas: Canvas, building: Building, box_depth: float) -> None:
    """Replaces the depth of the box by that of its long facade, which runs along the road."""
    near = max(building.z0, 1.0)
    ends: Array = canvas.project(np.array([[building.x0, 0, near], [building.x0, 0, building.z1]]))
    first, last = sorted((int(ends[0, 0]), int(ends[1, 0])))
    first, last = max(first, 0), min(last, WIDTH * SCALE)
    if last - first <= 1:
        return
    columns = np.arange(first, last) / SCALE - canvas.scene.centre
    columns = np.where(np.abs(columns) < 0.5, 0.5 * np.sign(building.x0), columns)
    z = np.clip(FOCAL * building.x0 / columns, near, building.z1)
    depth = canvas.depth[:, first:last]
    is_facade = (canvas.classes[:, first:last] == BUILDING) & (np.abs(depth - box_depth) < 1e-3)
    depth[is_facade] = np.broadcast_to(z.astype(np.float32), depth.shape)[is_facade]
