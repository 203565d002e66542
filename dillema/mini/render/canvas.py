"""The drawing surface: polygons in perspective, each with a colour, a class, a depth and a glow."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from ..scene import CAMERA_HEIGHT, FOCAL, HEIGHT, WIDTH, Appearance, Scene
from .classes import SKY
from .materials import NO_GLOW, Colour

Array = np.ndarray

SCALE = 2  # the canvas is twice as large as the image, which averages it; masks take every second pixel
FAR = 250.0  # metres
SUBPIXEL_BITS = 4  # OpenCV takes the corners of polygons as fixed-point numbers
EYE = np.array([0, CAMERA_HEIGHT, 0])
TO_LIGHT = np.array([-0.16, 0.22, -0.06])  # right, up, ahead


@dataclass(frozen=True)
class Face:
    """A visible face of a box.

    Attributes:
        name: front, back, left, right or top.
        corners: Bottom left, bottom right, top right and top left (4, 3), in metres.
        brightness: 1 for a face lit as the palette is; depends on where the face points.
    """

    name: str
    corners: Array
    brightness: float

    def points(self, u: Array, v: Array) -> Array:
        """Returns the points (n, 3) at (u, v) of the face, which run from 0 to 1."""
        u, v = u[:, None], v[:, None]
        bottom_left, bottom_right, top_right, top_left = self.corners
        return (
            bottom_left * (1 - u) * (1 - v)
            + bottom_right * u * (1 - v)
            + top_right * u * v
            + top_left * (1 - u) * v
        )


class Canvas:
    """A scene before it is lit: albedo, emission, depth, class and shadow of every pixel.

    Attributes:
        rng: Random numbers of the scene; the order in which they are drawn is part of the result.
        albedo: Colour in white light (height, width, 3), uint8.
        emission: Colour that a lamp emits (height, width, 3), uint8.
        depth: Distance ahead of the camera in metres.
        classes: SHIFT's class ids.
        shadow: 0 where the light is full.
        lamp_pools: Light of street lights on the ground, at the size of the image.
    """

    def __init__(self, scene: Scene, appearance: Appearance) -> None:
        size = (HEIGHT * SCALE, WIDTH * SCALE)
        self.scene, self.appearance = scene, appearance
        self.rng = np.random.default_rng(scene.seed + 1)
        self.albedo = np.zeros((*size, 3), np.uint8)
        self.emission = np.zeros((*size, 3), np.uint8)
        self.depth = np.full(size, FAR, np.float32)
        self.classes = np.full(size, SKY, np.uint8)
        self.shadow = np.zeros(size, np.uint8)
        self.lamp_pools = np.zeros((HEIGHT, WIDTH), np.float32)
        self.snowy = appearance.weather == "snowy"
        self.rainy = appearance.weather == "rainy"
        self.sunny = appearance.weather == "clear" and appearance.time_of_day != "night"
        self.street_lights_on = appearance.time_of_day != "daytime"
        self.vehicle_lights_on = self.street_lights_on or appearance.weather in ("rainy", "foggy", "snowy")

    def project(self, points: Array) -> Array:
        """Returns the pixels (n, 2) of the canvas for points (n, 3) in metres: right, up, ahead."""
        z = np.maximum(points[:, 2], 1.0)
        pixels = np.empty((len(points), 2))
        pixels[:, 0] = self.scene.centre + FOCAL * points[:, 0] / z
        pixels[:, 1] = self.scene.horizon + FOCAL * (CAMERA_HEIGHT - points[:, 1]) / z
        return pixels * SCALE

    def project_ground(self, x: float, z: float) -> Array:
        """Returns the pixel (2) of the canvas for a point on the ground."""
        pixel: Array = self.project(np.array([[x, 0, z]]))[0]
        return pixel

    def fill(
        self, pixels: Array, colour: Colour | Array, class_id: int, depth: float, glow: Colour = NO_GLOW
    ) -> None:
        """Draws a polygon given by its corners (n, 2) on the canvas."""
        polygon = [fixed_point(pixels)]
        cv2.fillPoly(self.albedo, polygon, _to_bytes(colour), shift=SUBPIXEL_BITS)
        cv2.fillPoly(self.classes, polygon, class_id, shift=SUBPIXEL_BITS)
        cv2.fillPoly(self.depth, polygon, depth, shift=SUBPIXEL_BITS)
        cv2.fillPoly(self.emission, polygon, _to_bytes(glow), shift=SUBPIXEL_BITS)

    def fill_details(self, polygons: Iterable[Array], colour: Colour | Array, glow: Colour = NO_GLOW) -> None:
        """Changes the colour within polygons, such as windows, and leaves class and depth as they are."""
        points = [fixed_point(pixels) for pixels in polygons]
        if points:
            cv2.fillPoly(self.albedo, points, _to_bytes(colour), shift=SUBPIXEL_BITS)
            if any(glow):
                cv2.fillPoly(self.emission, points, _to_bytes(glow), shift=SUBPIXEL_BITS)

    def fill_ground(
        self, x: tuple[float, float], z: tuple[float, float], colour: Colour, class_id: int
    ) -> None:
        """Draws a rectangle that lies on the ground, whose depth is there already."""
        corners = np.array([[x[0], 0, z[0]], [x[1], 0, z[0]], [x[1], 0, z[1]], [x[0], 0, z[1]]], float)
        polygon = [fixed_point(self.project(corners))]
        cv2.fillPoly(self.albedo, polygon, _to_bytes(colour), shift=SUBPIXEL_BITS)
        cv2.fillPoly(self.classes, polygon, class_id, shift=SUBPIXEL_BITS)

    def cast_shadow(self, x: float, z: float, width: float, reach: float) -> None:
        """Darkens the ground under an object, and beside it, as far as `reach`, when the sun shines."""
        if self.sunny:
            left, right = x - width / 2, x + width / 2 + reach
            near, shift = z - 0.3, 0.2 * reach
            corners = [
                [left, 0, near],
                [right, 0, z + shift - 0.3],
                [right, 0, z + shift + 0.8],
                [left, 0, z + 0.8],
            ]
            polygon = [fixed_point(self.project(np.array(corners)))]
            cv2.fillPoly(self.shadow, polygon, 120, shift=SUBPIXEL_BITS)
        foot = self.project_ground(x, z)
        axes = (int(FOCAL * SCALE * width * 0.55 / z), max(1, int(FOCAL * SCALE * 0.12 * width / z)))
        cv2.ellipse(self.shadow, (int(foot[0]), int(foot[1])), axes, 0, 0, 360, 150, -1)

    def draw_box(self, corners: Array, colour: Colour | Array, class_id: int) -> list[Face]:
        """Draws the visible faces of a box, far ones first, and returns them.

        `corners` (8, 3) are those of the bottom, back to front against the clock, and then those of the top.
        """
        faces = visible_faces(corners)
        depth = max(float(corners[:, 2].mean()), 1.0)
        for face in faces:
            self.fill(self.project(face.corners), np.array(colour) * face.brightness, class_id, depth)
        return faces


def visible_faces(corners: Array) -> list[Face]:
    """Returns the faces of a box that point to the camera, far ones first."""
    bottom, top = corners[:4], corners[4:]
    sides = {
        "back": np.array([bottom[0], bottom[1], top[1], top[0]]),
        "front": np.array([bottom[2], bottom[3], top[3], top[2]]),
        "left": np.array([bottom[3], bottom[0], top[0], top[3]]),
        "right": np.array([bottom[1], bottom[2], top[2], top[1]]),
        "top": top,
    }
    centre = corners.mean(0)
    faces = []
    for name, side in sides.items():
        normal = _cross(side[1] - side[0], side[3] - side[0])
        middle = side.mean(0)
        if normal @ (middle - centre) < 0:
            normal = -normal
        if normal @ (middle - EYE) < 0:
            normal = normal / (np.linalg.norm(normal) + 1e-9)
            faces.append(Face(name, side, float(np.clip(0.84 + normal @ TO_LIGHT, 0.55, 1.1))))
    return sorted(faces, key=lambda face: -np.linalg.norm(face.corners.mean(0) - EYE))


def _cross(a: Array, b: Array) -> Array:
    """Returns the cross product of two vectors (3): numpy's takes ten times as long."""
    (a0, a1, a2), (b0, b1, b2) = a.tolist(), b.tolist()
    return np.array([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


def fixed_point(pixels: Array) -> Array:
    """Returns corners as OpenCV takes them; those far outside the canvas would overflow."""
    return (np.clip(pixels, -4000, 4000) * 2**SUBPIXEL_BITS).astype(np.int32)


def _to_bytes(colour: Colour | Array) -> tuple[float, ...]:
    return tuple(min(max(channel, 0.0), 1.0) * 255 for channel in np.asarray(colour, float).tolist())
