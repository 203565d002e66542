"""Vehicles, drawn from the boxes and wheels of their shapes."""

import cv2
import numpy as np

from ..scene import FOCAL, SIZES, Vehicle
from .canvas import EYE, SCALE, SUBPIXEL_BITS, Array, Canvas, Face
from .classes import PEDESTRIAN, VEHICLE
from .materials import LAMP_GLOW, MATERIAL, NO_GLOW, PAINT, Colour
from .shapes import RIDER_MATERIALS, SHAPES, Box, Decal, Wheel

SNOW: Colour = (0.93, 0.94, 0.96)
HUB: Colour = (0.5, 0.5, 0.52)
RING_GREY = (12, 12, 12)
TWO_WHEELERS = ("motorcycle", "bicycle")


def draw_vehicle(canvas: Canvas, vehicle: Vehicle) -> None:
    """Draws a vehicle with its rider, if it has one, and its shadow."""
    length, width, height = SIZES[vehicle.kind]
    seen_from_side = abs(np.sin(vehicle.yaw)) > 0.7
    seen_from_end = abs(np.cos(vehicle.yaw)) > 0.7
    shadow_z = vehicle.centre_z if seen_from_side else vehicle.z + 0.4
    canvas.cast_shadow(vehicle.x, shadow_z, width if seen_from_end else length, height * 0.8)
    paint = PAINT[vehicle.colour or canvas.appearance.colour]
    for part in _parts_in_order(vehicle):
        if isinstance(part, Wheel):
            _draw_wheel(canvas, vehicle, part)
        else:
            _draw_box(canvas, vehicle, part, paint)


def _parts_in_order(vehicle: Vehicle) -> list[Box | Wheel]:
    """Returns the parts in the order in which they are drawn, so that near ones hide far ones."""
    parts = SHAPES[vehicle.kind]
    if vehicle.kind in TWO_WHEELERS:
        return sorted(
            parts, key=lambda part: -_distance(vehicle, part) + (0.0 if isinstance(part, Wheel) else 1e-3)
        )
    # tyres first, bodies from the far end to the near one, discs of the near side last
    boxes = [part for part in parts if isinstance(part, Box)]
    wheels = [part for part in parts if isinstance(part, Wheel)]
    tyres = [box for box in boxes if box.material in ("tyre", "dark")]
    bodies = [box for box in boxes if box.material not in ("tyre", "dark")]
    tyres.sort(key=lambda box: -_distance(vehicle, box))
    bodies.sort(key=lambda box: (vehicle.kind == "car" and box.h0 > 0.8, -_distance(vehicle, box)))
    return [*tyres, *bodies, *wheels]


def _distance(vehicle: Vehicle, part: Box | Wheel) -> float:
    """Returns how far ahead of the camera the centre of a part is, in metres."""
    if isinstance(part, Wheel):
        centre = (part.along, part.w, part.r)
    else:
        centre = ((part.l0 + part.l1) / 2, (part.w0 + part.w1) / 2, 0)
    return float(_to_scene(vehicle, np.array([centre]))[0, 2])


def _to_scene(vehicle: Vehicle, points: Array) -> Array:
    """Returns points (n, 3) of the scene, in metres, for points of the vehicle: forward, to the right, up."""
    along, across, up = points.T
    cos, sin = np.cos(vehicle.yaw), np.sin(vehicle.yaw)
    right = vehicle.x + along * sin + across * cos
    ahead = vehicle.centre_z + along * cos - across * sin
    return np.stack([right, up, ahead], 1)


def _draw_box(canvas: Canvas, vehicle: Vehicle, box: Box, paint: Colour) -> None:
    bottom = [(box.l0, box.w0), (box.l0, box.w1), (box.l1, box.w1), (box.l1, box.w0)]
    back, front = box.l0 + box.back, box.l1 - box.front
    left, right = box.w0 + box.side, box.w1 - box.side
    top = [(back, left), (back, right), (front, right), (front, left)]
    points = [(*corner, box.h0) for corner in bottom] + [(*corner, box.h1) for corner in top]
    colour = paint if box.material == "paint" else MATERIAL[box.material]
    class_id = PEDESTRIAN if box.material in RIDER_MATERIALS else VEHICLE
    for face in canvas.draw_box(_to_scene(vehicle, np.array(points)), colour, class_id):
        if canvas.snowy and face.name == "top" and box.material == "paint":
            canvas.fill_details([canvas.project(face.corners)], SNOW)
        for decal in box.decals.get(face.name, ()):
            _draw_decal(canvas, face, decal)


def _draw_decal(canvas: Canvas, face: Face, decal: Decal) -> None:
    u0, u1, v0, v1, material = decal
    corners = face.points(np.array([u0, u1, u1, u0]), np.array([v0, v0, v1, v1]))
    brightness = 1 if material == "glass" else face.brightness
    colour = np.array(MATERIAL[material]) * brightness
    canvas.fill_details([canvas.project(corners)], colour, _lamp_glow(canvas, material))


def _lamp_glow(canvas: Canvas, material: str) -> Colour:
    """Returns the light that a material emits; lamps are weaker by day."""
    if not canvas.vehicle_lights_on:
        return NO_GLOW
    red, green, blue = LAMP_GLOW.get(material, NO_GLOW)
    return (red, green, blue) if canvas.street_lights_on else (0.6 * red, 0.6 * green, 0.6 * blue)


def _draw_wheel(canvas: Canvas, vehicle: Vehicle, wheel: Wheel) -> None:
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    along = wheel.along + wheel.r * np.cos(angle)
    up = wheel.r + wheel.r * np.sin(angle)
    points = _to_scene(vehicle, np.stack([along, np.full(16, wheel.w), up], 1))
    centre = points.mean(0)
    depth = max(float(points[:, 2].mean()), 1.0)
    outward = np.sign(wheel.w) * np.array([np.cos(vehicle.yaw), 0, -np.sin(vehicle.yaw)])
    if wheel.ring:
        _draw_ring(canvas, points, wheel.ring, depth)
    elif outward @ (centre - EYE) < 0:
        canvas.fill(canvas.project(points), MATERIAL["tyre"], VEHICLE, depth)
        canvas.fill_details([canvas.project(centre + (points - centre) * 0.5)], HUB)


def _draw_ring(canvas: Canvas, points: Array, thickness: float, depth: float) -> None:
    outline = [(canvas.project(points) * 2**SUBPIXEL_BITS).astype(np.int32)]
    pixels = max(2, int(thickness * FOCAL * SCALE / depth))
    for layer, value in ((canvas.albedo, RING_GREY), (canvas.classes, VEHICLE), (canvas.depth, depth)):
        cv2.polylines(layer, outline, True, value, pixels, shift=SUBPIXEL_BITS)
