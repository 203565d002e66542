"""Lights a drawn scene and shows it through the air of its weather."""

from dataclasses import dataclass

import cv2
import numpy as np

from ..scene import HEIGHT, WIDTH
from .canvas import FAR, SCALE, Array, Canvas
from .classes import ROAD, ROAD_LINE, SIDEWALK, SKY, TERRAIN
from .materials import Colour
from .sky import SKY_COLOURS, draw_sky
from .weather import add_precipitation, reflect_in_road

AMBIENT: dict[str, Colour] = {
    "daytime": (1.0, 1.0, 1.0),
    "dusk": (0.62, 0.47, 0.5),
    "night": (0.115, 0.125, 0.19),
}
AMBIENT_BY_WEATHER = {"clear": 1.0, "cloudy": 0.82, "rainy": 0.7, "foggy": 0.88, "snowy": 0.9}
# the distance in metres at which the contrast has fallen to 1/e
VISIBILITY = {"clear": 900.0, "cloudy": 600.0, "rainy": 130.0, "foggy": 17.0, "snowy": 80.0}
STREET_LIGHT = np.array((1, 0.85, 0.6), np.float32)
HEADLIGHT = np.array((1, 0.97, 0.88), np.float32)
HALO_WIDTHS = {"foggy": (2.0, 5.0), "rainy": (1.6, 4.0)}  # pixels, of the inner and the outer halo of lamps
HALO_STRENGTH = {"daytime": 0.3, "dusk": 0.55, "night": 1.0}


@dataclass(frozen=True)
class _Layers:
    """The canvas at the size of the image.

    Attributes:
        albedo: From 0 to 1, as the other layers that are not said to be otherwise.
        emission: Light of lamps and windows.
        depth: Metres.
        shadow: 1 where the ground gets no direct light.
        classes: SHIFT's class ids.
        ground: Whether a pixel shows the ground.
    """

    albedo: Array
    emission: Array
    depth: Array
    shadow: Array
    classes: Array
    ground: Array


def develop(canvas: Canvas) -> Array:
    """Returns the image (height, width, 3), uint8, of what was drawn."""
    layers = _image_layers(canvas)
    image = layers.albedo * _incident_light(canvas, layers)
    image = _add_sky(canvas, layers, image)
    image = image * (1 - layers.emission.max(2, keepdims=True)) + layers.emission
    if canvas.rainy:
        image = reflect_in_road(canvas, image, layers.classes)
    image = _add_air(canvas, layers, image)
    if canvas.rainy or canvas.snowy:
        image = add_precipitation(canvas, image)
    sensor_noise = canvas.rng.normal(0, 0.006, image.shape).astype(np.float32)
    return (np.clip(image + sensor_noise, 0, 1) * 255 + 0.5).astype(np.uint8)


def _image_layers(canvas: Canvas) -> _Layers:
    albedo, emission = _shrink(canvas.albedo) / 255, _shrink(canvas.emission) / 255
    shadow = cv2.GaussianBlur(_shrink(canvas.shadow), (0, 0), 0.7) / 255
    classes = canvas.classes[1::SCALE, 1::SCALE]
    ground = np.isin(classes, (ROAD, ROAD_LINE, SIDEWALK, TERRAIN))
    grain = canvas.rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32)
    albedo += (0.012 * grain * ground)[..., None]
    return _Layers(albedo, emission, _shrink(canvas.depth), shadow, classes, ground)


def _incident_light(canvas: Canvas, layers: _Layers) -> Array:
    """Returns the light on every pixel (height, width, 3): sky, shadows, street lights and own headlights."""
    time = canvas.appearance.time_of_day
    ambient = np.array(AMBIENT[time], np.float32) * AMBIENT_BY_WEATHER[canvas.appearance.weather]
    light = (
        np.broadcast_to(ambient, layers.albedo.shape) * (1 - 0.75 * layers.shadow * layers.ground)[..., None]
    )
    if not canvas.street_lights_on:
        return light
    strength = 0.62 if time == "night" else 0.3
    pools = cv2.GaussianBlur(canvas.lamp_pools, (0, 0), 2.5)
    columns = (np.arange(WIDTH) - canvas.scene.centre) / 90
    beam = np.exp(-((layers.depth / 19) ** 2)) * np.exp(-(columns[None] ** 2)) * (layers.classes != SKY)
    light = light + strength * (pools * layers.ground)[..., None] * STREET_LIGHT
    return light + strength * beam[..., None] * HEADLIGHT


def _add_sky(canvas: Canvas, layers: _Layers, image: Array) -> Array:
    sky = draw_sky(canvas.scene, canvas.appearance)
    open_sky = (layers.depth > FAR * 0.98) & (layers.classes == SKY)
    sky_share = _shrink((canvas.classes == SKY).astype(np.float32))[..., None]
    return np.where(open_sky[..., None], sky, image) * (1 - sky_share) + sky * sky_share


def _add_air(canvas: Canvas, layers: _Layers, image: Array) -> Array:
    """Returns the image as seen through fog, rain or snow, with halos around lamps."""
    weather, time = canvas.appearance.weather, canvas.appearance.time_of_day
    fog = np.array(SKY_COLOURS[weather, time].horizon, np.float32)
    clearness = np.exp(-layers.depth / VISIBILITY[weather])[..., None]
    image = image * clearness + fog * (1 - clearness)
    if not canvas.vehicle_lights_on:
        return image
    inner, outer = HALO_WIDTHS.get(weather, (1.2, 3.5))
    glow = layers.emission * (clearness**0.5)
    halo = 0.5 * cv2.GaussianBlur(glow, (0, 0), inner) + 0.8 * cv2.GaussianBlur(glow, (0, 0), outer)
    return image + HALO_STRENGTH[time] * halo


def _shrink(layer: Array) -> Array:
    """Returns a layer of the canvas at the size of the image, float32."""
    return cv2.resize(layer, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
