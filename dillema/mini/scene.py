"""The layout of a street, without weather, light or the colour of the nearest vehicle."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

WIDTH, HEIGHT = 256, 160  # pixels
FOCAL = 150.0  # pixels
CAMERA_HEIGHT = 1.5  # metres
LANE_WIDTH = 3.3  # metres
EDGE_WIDTH = 0.4  # metres between the kerb and the first lane

WEATHERS = ("clear", "cloudy", "rainy", "foggy", "snowy")
TIMES = ("daytime", "dusk", "night")
COLOURS = ("white", "black", "red", "blue", "green", "yellow")
VEHICLE_KINDS = ("car", "van", "truck", "bus", "motorcycle", "bicycle")
SIZES = {  # length, width, height in metres, rider included
    "car": (4.4, 1.8, 1.5),
    "van": (4.9, 2.0, 2.2),
    "truck": (7.6, 2.4, 3.4),
    "bus": (10.5, 2.5, 3.1),
    "motorcycle": (2.1, 0.8, 1.75),
    "bicycle": (1.8, 0.6, 1.75),
}
WALL_COLOURS = (
    (0.62, 0.33, 0.26),
    (0.72, 0.64, 0.52),
    (0.55, 0.55, 0.58),
    (0.78, 0.74, 0.66),
    (0.5, 0.4, 0.34),
    (0.66, 0.52, 0.4),
)

Task = Literal["street", "vehicle"]
"""Streets, for segmentation, or streets with one dominant vehicle, for classification."""

Road = tuple[float, float]
"""The left and the right edge of the road in metres; the camera is at 0."""


@dataclass(frozen=True)
class Appearance:
    """What may change while the layout stays: weather, time of day and the colour of the nearest vehicle."""

    weather: str
    time_of_day: str
    colour: str

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Appearance":
        """Returns an appearance drawn uniformly."""
        return cls(str(rng.choice(WEATHERS)), str(rng.choice(TIMES)), str(rng.choice(COLOURS)))


@dataclass(frozen=True)
class Vehicle:
    """A vehicle whose nearest end is at (x, z) metres.

    `yaw` is in radians: a vehicle at 0 drives away from the camera, one at pi towards it.
    `colour` is "" for the nearest vehicle, whose colour belongs to the appearance.
    """

    kind: str
    x: float
    z: float
    yaw: float
    colour: str

    @property
    def centre_z(self) -> float:
        """Returns how far ahead of the camera the centre is, in metres."""
        length, width, _ = SIZES[self.kind]
        return float(self.z + 0.5 * (abs(np.cos(self.yaw)) * length + abs(np.sin(self.yaw)) * width))


@dataclass(frozen=True)
class Building:
    """A block beside the road: x0 is the side towards the road, z0 the end towards the camera."""

    x0: float
    x1: float
    z0: float
    z1: float
    height: float
    wall: tuple[float, float, float]
    seed: int


@dataclass(frozen=True)
class Thing:
    """A tree, a street light or a pedestrian at (x, z) metres; the seed decides its details."""

    kind: str
    x: float
    z: float
    height: float
    tint: tuple[float, float, float]
    seed: int


@dataclass(frozen=True)
class Scene:
    """A street: camera, ground, and everything on it.

    Attributes:
        horizon: Row of the horizon in pixels.
        centre: Column of what is straight ahead in pixels.
        road: Its left and right edge in metres.
        lanes: Number of lanes.
        sidewalk: Width of each sidewalk in metres.
        crossing: Distance of a pedestrian crossing in metres; 0 where there is none.
        buildings: From far to near.
        things: Trees, street lights and pedestrians.
        vehicles: From near to far.
        seed: What the scene was drawn from, and its details are.
    """

    horizon: float
    centre: float
    road: Road
    lanes: int
    sidewalk: float
    crossing: float
    buildings: tuple[Building, ...]
    things: tuple[Thing, ...]
    vehicles: tuple[Vehicle, ...]
    seed: int

    @property
    def kind(self) -> str:
        """Returns the kind of the nearest vehicle."""
        return self.vehicles[0].kind

    @property
    def pedestrians(self) -> int:
        """Returns how many pedestrians stand within 30 m."""
        return sum(thing.kind == "pedestrian" and thing.z < 30 for thing in self.things)


def scene_seed(*parts: object) -> int:
    """Returns a 63-bit seed that depends on the parts alone."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def sample_scene(seed: int, task: Task = "street") -> Scene:
    """Returns the street, or the street with one dominant vehicle, that belongs to a seed.

    The order in which random numbers are drawn is part of the result: weights were trained on these scenes.
    """
    rng = np.random.default_rng(seed)
    lanes = int(rng.integers(2, 5))
    half_width = lanes * LANE_WIDTH / 2 + EDGE_WIDTH
    offset = (
        LANE_WIDTH / 2 if task == "street" else rng.uniform(-1.0, 1.0)
    )  # a camera in traffic keeps to the right
    road = (-half_width - offset, half_width - offset)
    sidewalk = rng.uniform(1.6, 3.2)
    nearest = _sample_street_vehicle(rng, road) if task == "street" else _sample_dominant_vehicle(rng)
    other_vehicles = []
    for _ in range(int(rng.integers(0, 4 if task == "street" else 2))):
        z = nearest.z + SIZES[nearest.kind][0] + rng.uniform(7, 40)
        other_vehicles.append(_sample_vehicle_in_lane(rng, road, lanes, z))
    return Scene(
        horizon=rng.uniform(62, 78),
        centre=WIDTH / 2 + rng.uniform(-22, 22),
        road=road,
        lanes=lanes,
        sidewalk=sidewalk,
        crossing=rng.uniform(9, 24) if rng.random() < 0.25 else 0.0,
        buildings=tuple(_sample_buildings(rng, road, sidewalk)),
        things=tuple(_sample_things(rng, road, sidewalk, task)),
        vehicles=(nearest, *sorted(other_vehicles, key=lambda vehicle: vehicle.z)),
        seed=seed,
    )


def drawn_appearance(seed: int) -> Appearance:
    """Returns the appearance that is drawn with the scene of a seed."""
    return Appearance.sample(appearance_rng(seed))


def appearance_rng(seed: int) -> np.random.Generator:
    """Returns the random numbers from which the appearance of a scene, and then its caption, are drawn."""
    return np.random.default_rng(seed + 7)


def _sample_vehicle_in_lane(rng: np.random.Generator, road: Road, lanes: int, z: float) -> Vehicle:
    lane = int(rng.integers(lanes))
    x = road[0] + EDGE_WIDTH + (lane + 0.5) * LANE_WIDTH
    yaw = 0.0 if x > (road[0] + road[1]) / 2 else np.pi
    kind = str(rng.choice(VEHICLE_KINDS, p=(0.4, 0.15, 0.12, 0.11, 0.11, 0.11)))
    return Vehicle(kind, x, z, yaw, str(rng.choice(COLOURS)))


def _sample_street_vehicle(rng: np.random.Generator, road: Road) -> Vehicle:
    kind = str(rng.choice(VEHICLE_KINDS, p=(0.3, 0.18, 0.15, 0.13, 0.12, 0.12)))
    small = kind in ("motorcycle", "bicycle")
    z = rng.uniform(4.5, 7.5) if small else rng.uniform(6.5, 12)
    crosses_road = rng.random() < 0.2
    yaw = rng.choice((np.pi / 2, -np.pi / 2)) if crosses_road else rng.choice((0.0, np.pi), p=(0.65, 0.35))
    rightmost = min(0.55 * z, max(road[1] - 1.3, 0.5))
    if yaw == 0:
        x = rng.uniform(-0.4 * z, rightmost)
    else:
        x = rng.uniform(max(-0.6 * z, road[0] + 1.3), rightmost - 0.5)
    return Vehicle(kind, float(x), float(z), float(yaw), "")


def _sample_dominant_vehicle(rng: np.random.Generator) -> Vehicle:
    """Returns a vehicle near the centre, so far away that it fills much of the image."""
    kind = str(rng.choice(VEHICLE_KINDS))
    length, width, height = SIZES[kind]
    yaw = float(rng.choice((0, np.pi / 2, np.pi, -np.pi / 2))) + rng.uniform(-0.5, 0.5)
    visible_width = abs(np.sin(yaw)) * length + abs(np.cos(yaw)) * width
    z_by_width = FOCAL * visible_width / rng.uniform(110, 170)
    z_by_height = FOCAL * height / rng.uniform(70, 110)
    z = max(z_by_width, z_by_height) + 0.5 * width + 0.8
    return Vehicle(kind, float(rng.uniform(-0.12, 0.12) * z), float(z), yaw, "")


def _sample_buildings(rng: np.random.Generator, road: Road, sidewalk: float) -> list[Building]:
    buildings = []
    for side, edge in ((-1, road[0] - sidewalk), (1, road[1] + sidewalk)):
        setback = rng.uniform(0, 6)
        z = rng.uniform(3, 22)
        while z < 95:
            depth, x0 = rng.uniform(8, 18), edge + side * (setback + rng.uniform(0, 1.5))
            base_colour = np.array(WALL_COLOURS[rng.integers(len(WALL_COLOURS))])
            wall = tuple(np.clip(base_colour + rng.normal(0, 0.03, 3), 0, 1))
            x1, height = x0 + side * rng.uniform(8, 16), rng.uniform(6, 24)
            buildings.append(Building(x0, x1, z, z + depth, height, wall, int(rng.integers(2**31))))
            z += depth + (rng.uniform(0, 3) if rng.random() < 0.6 else rng.uniform(6, 25))
    return sorted(buildings, key=lambda building: -building.z1)


def _sample_things(rng: np.random.Generator, road: Road, sidewalk: float, task: Task) -> list[Thing]:
    things = []
    start = rng.uniform(6, 14)
    spacing = rng.uniform(16, 24)
    max_pedestrians = 2 if task == "street" else 1
    for side, edge in ((-1, road[0]), (1, road[1])):
        for z in np.arange(start if side < 0 else start + spacing / 2, 70, spacing):
            things.append(
                Thing("light", edge + side * 0.5, float(z), rng.uniform(5, 6), (float(-side), 0, 0), 0)
            )
        for _ in range(int(rng.integers(0, 6))):
            tint = (0.16 + rng.uniform(0, 0.1), 0.36 + rng.uniform(-0.05, 0.1), 0.14)
            x = edge + side * (sidewalk + rng.uniform(0.3, 2.5))
            z, height = rng.uniform(7, 50), rng.uniform(3, 7)
            things.append(Thing("tree", x, z, height, tint, int(rng.integers(2**31))))
        for _ in range(int(rng.integers(0, max_pedestrians + 1))):
            x = edge + side * rng.uniform(0.4, sidewalk)
            z, height = rng.uniform(6, 26), rng.uniform(1.55, 1.9)
            tint = tuple(rng.uniform(0.1, 0.9, 3))
            things.append(Thing("pedestrian", x, z, height, tint, int(rng.integers(2**31))))
    return things
