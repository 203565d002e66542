"""Renders a scene in any weather, at any time of day, with any colour of its nearest vehicle."""

import numpy as np

from ..scene import Appearance, Scene, Thing, Vehicle
from .buildings import draw_building
from .canvas import SCALE, Canvas
from .classes import (
    BUILDING,
    CLASSES,
    PEDESTRIAN,
    POLE,
    ROAD,
    ROAD_LINE,
    SIDEWALK,
    SKY,
    TERRAIN,
    VEGETATION,
    VEHICLE,
)
from .ground import draw_ground
from .light import develop
from .materials import PAINT
from .things import DRAW_THING
from .vehicles import draw_vehicle

__all__ = [
    "BUILDING",
    "CLASSES",
    "PAINT",
    "PEDESTRIAN",
    "POLE",
    "ROAD",
    "ROAD_LINE",
    "SIDEWALK",
    "SKY",
    "TERRAIN",
    "VEGETATION",
    "VEHICLE",
    "render",
]


def render(scene: Scene, appearance: Appearance) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image (160, 256, 3) and the mask (160, 256) of SHIFT's class ids, both uint8.

    The mask depends on the scene alone.
    """
    canvas = Canvas(scene, appearance)
    draw_ground(canvas)
    for building in scene.buildings:
        draw_building(canvas, building)
    objects: list[Thing | Vehicle] = [*scene.things, *scene.vehicles]
    for item in sorted(objects, key=lambda item: -item.z):
        if isinstance(item, Vehicle):
            draw_vehicle(canvas, item)
        else:
            DRAW_THING[item.kind](canvas, item)
    return develop(canvas), np.ascontiguousarray(canvas.classes[1::SCALE, 1::SCALE])
