"""Buildings with windows."""

import cv2
import numpy as np

from ..scene import FOCAL, WIDTH, Appearance, Building, Scene
from .canvas import SCALE, SUBPIXEL_BITS, Array, Canvas, Face, fixed_point, visible_faces
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
    corners = _corners(building)
    rng = np.random.default_rng(building.seed)
    wall = np.array(building.wall) * (0.9 if canvas.rainy else 1)
    for face in canvas.draw_box(corners, wall, BUILDING):
        if face.name == "top":
            continue
        windows, lit = _place_windows(canvas, building, face, rng)
        canvas.fill_details(windows[~lit], DARK_WINDOW * face.brightness)
        canvas.fill_details(windows[lit], LIT_WINDOW, WINDOW_GLOW)
        if canvas.snowy:
            _draw_snow(canvas, building, face)
    _set_facade_depth(canvas, building, max(float(corners[:, 2].mean()), 1.0))


def locate_windows(scene: Scene, appearance: Appearance) -> tuple[Array, Array]:
    """Returns the number of the window that each pixel shows (160, 256), int32, and which are lit (n).

    Number 0, which is never lit, stands for no window. Only other buildings cover windows here.
    """
    canvas = Canvas(scene, appearance)
    numbers = np.zeros(canvas.classes.shape, np.int32)
    lit = [False]
    for building in scene.buildings:
        rng = np.random.default_rng(building.seed)
        for face in visible_faces(_corners(building)):
            cv2.fillPoly(numbers, [fixed_point(canvas.project(face.corners))], 0, shift=SUBPIXEL_BITS)
            if face.name != "top":
                for window, is_lit in zip(*_place_windows(canvas, building, face, rng), strict=True):
                    cv2.fillPoly(numbers, [fixed_point(window)], len(lit), shift=SUBPIXEL_BITS)
                    lit.append(bool(is_lit))
    return numbers[1::SCALE, 1::SCALE], np.array(lit)


def _corners(building: Building) -> Array:
    x = sorted((building.x0, building.x1))
    ground_plan = ((x[0], building.z0), (x[1], building.z0), (x[1], building.z1), (x[0], building.z1))
    return np.array([[along, up, ahead] for up in (0.0, building.height) for along, ahead in ground_plan])


def _place_windows(
    canvas: Canvas, building: Building, face: Face, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Returns the corners of the windows of a face on the canvas (n, 4, 2), and which of them are lit (n)."""
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
    if FOCAL * FLOOR_HEIGHT / max(face.corners[:, 2].min(), 1.0) <= MIN_FLOOR_PIXELS:
        return windows[:0], lit[:0]
    return windows, lit


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
