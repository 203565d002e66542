"""What stands where in a street: the layout of a scene, without weather, light or the colour of the nearest vehicle."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

WIDTH, HEIGHT = 256, 160
FOCAL = 150.0
CAMERA_HEIGHT = 1.5

WEATHERS = ("clear", "cloudy", "rainy", "foggy", "snowy")
TIMES = ("daytime", "dusk", "night")
COLOURS = ("white", "black", "red", "blue", "green", "yellow")
KINDS = ("car", "van", "truck", "bus", "motorcycle", "bicycle")
SIZES = {  # length, width, height in metres, rider included
    "car": (4.4, 1.8, 1.5),
    "van": (4.9, 2.0, 2.2),
    "truck": (7.6, 2.4, 3.4),
    "bus": (10.5, 2.5, 3.1),
    "motorcycle": (2.1, 0.8, 1.75),
    "bicycle": (1.8, 0.6, 1.75),
}

Task = Literal["street", "vehicle"]


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
    """A vehicle at (x, z) metres, turned by `yaw` radians (0: driving away from the camera)."""

    kind: str
    x: float
    z: float
    yaw: float
    colour: str


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
    """A tree, a street light or a pedestrian at (x, z), with its height, a tint, and a seed for its details."""

    kind: str
    x: float
    z: float
    height: float
    tint: tuple[float, float, float]
    seed: int


@dataclass(frozen=True)
class Scene:
    """A street: camera, ground, and everything on it; `vehicles[0]` is the nearest one."""

    horizon: float
    centre: float
    road: tuple[float, float]
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
        return sum(t.kind == "pedestrian" and t.z < 30 for t in self.things)


def seed_of(*parts: object) -> int:
    """Returns a 63-bit seed that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def sample_scene(seed: int, task: Task = "street") -> Scene:
    """Returns the street, or the street with one dominant vehicle, that belongs to a seed."""
    rng = np.random.default_rng(seed)
    u = rng.uniform
    lanes = int(rng.integers(2, 5))
    half = lanes * 1.65 + 0.4
    offset = 1.65 if task == "street" else u(-1.0, 1.0)  # the camera drives on the right-hand side
    road = (-half - offset, half - offset)
    sidewalk = u(1.6, 3.2)
    nearest = _street_vehicle(rng, road) if task == "street" else _dominant_vehicle(rng)
    vehicles = [nearest]
    for _ in range(int(rng.integers(0, 4)) if task == "street" else int(rng.integers(0, 2))):
        z = nearest.z + SIZES[nearest.kind][0] + u(7, 40)
        vehicles.append(_in_lane(rng, road, lanes, z))
    vehicles[1:] = sorted(vehicles[1:], key=lambda v: v.z)
    return Scene(
        horizon=u(62, 78),
        centre=WIDTH / 2 + u(-22, 22),
        road=road,
        lanes=lanes,
        sidewalk=sidewalk,
        crossing=u(9, 24) if rng.random() < 0.25 else 0.0,
        buildings=tuple(_buildings(rng, road, sidewalk)),
        things=tuple(_things(rng, road, sidewalk, task)),
        vehicles=tuple(vehicles),
        seed=seed,
    )


def _in_lane(rng: np.random.Generator, road: tuple[float, float], lanes: int, z: float) -> Vehicle:
    lane = int(rng.integers(lanes))
    x = road[0] + 0.4 + (lane + 0.5) * 3.3
    yaw = 0.0 if x > (road[0] + road[1]) / 2 else np.pi
    kind = str(rng.choice(KINDS, p=(0.4, 0.15, 0.12, 0.11, 0.11, 0.11)))
    return Vehicle(kind, x, z, yaw, str(rng.choice(COLOURS)))


def _street_vehicle(rng: np.random.Generator, road: tuple[float, float]) -> Vehicle:
    kind = str(rng.choice(KINDS, p=(0.3, 0.18, 0.15, 0.13, 0.12, 0.12)))
    small = kind in ("motorcycle", "bicycle")
    z = rng.uniform(4.5, 7.5) if small else rng.uniform(6.5, 12)
    crossing = rng.random() < 0.2
    yaw = rng.choice((np.pi / 2, -np.pi / 2)) if crossing else rng.choice((0.0, np.pi), p=(0.65, 0.35))
    reach = min(0.55 * z, max(road[1] - 1.3, 0.5))
    x = rng.uniform(-0.4 * z, reach) if yaw == 0 else rng.uniform(max(-0.6 * z, road[0] + 1.3), reach - 0.5)
    return Vehicle(kind, float(x), float(z), float(yaw), "")


def _dominant_vehicle(rng: np.random.Generator) -> Vehicle:
    kind = str(rng.choice(KINDS))
    length, width, height = SIZES[kind]
    yaw = float(rng.choice((0, np.pi / 2, np.pi, -np.pi / 2))) + rng.uniform(-0.5, 0.5)
    across = abs(np.sin(yaw)) * length + abs(np.cos(yaw)) * width
    z = max(FOCAL * across / rng.uniform(110, 170), FOCAL * height / rng.uniform(70, 110)) + 0.5 * width + 0.8
    return Vehicle(kind, float(rng.uniform(-0.12, 0.12) * z), float(z), yaw, "")


def _buildings(rng: np.random.Generator, road: tuple[float, float], sidewalk: float) -> list[Building]:
    walls = ((0.62, 0.33, 0.26), (0.72, 0.64, 0.52), (0.55, 0.55, 0.58), (0.78, 0.74, 0.66), (0.5, 0.4, 0.34), (0.66, 0.52, 0.4))
    blocks = []
    for side, edge in ((-1, road[0] - sidewalk), (1, road[1] + sidewalk)):
        setback = rng.uniform(0, 6)
        z = rng.uniform(3, 22)
        while z < 95:
            depth, x0 = rng.uniform(8, 18), edge + side * (setback + rng.uniform(0, 1.5))
            wall = tuple(np.clip(np.array(walls[rng.integers(len(walls))]) + rng.normal(0, 0.03, 3), 0, 1))
            blocks.append(Building(x0, x0 + side * rng.uniform(8, 16), z, z + depth, rng.uniform(6, 24), wall, int(rng.integers(2**31))))
            z += depth + (rng.uniform(0, 3) if rng.random() < 0.6 else rng.uniform(6, 25))
    return sorted(blocks, key=lambda b: -b.z1)


def _things(rng: np.random.Generator, road: tuple[float, float], sidewalk: float, task: Task) -> list[Thing]:
    things = []
    start = rng.uniform(6, 14)
    spacing = rng.uniform(16, 24)
    for side, edge in ((-1, road[0]), (1, road[1])):
        for z in np.arange(start if side < 0 else start + spacing / 2, 70, spacing):
            things.append(Thing("light", edge + side * 0.5, float(z), rng.uniform(5, 6), (float(-side), 0, 0), 0))
        for _ in range(int(rng.integers(0, 6))):
            tint = (0.16 + rng.uniform(0, 0.1), 0.36 + rng.uniform(-0.05, 0.1), 0.14)
            x = edge + side * (sidewalk + rng.uniform(0.3, 2.5))
            things.append(Thing("tree", x, rng.uniform(7, 50), rng.uniform(3, 7), tint, int(rng.integers(2**31))))
        for _ in range(int(rng.integers(0, 3 if task == "street" else 2))):
            x = edge + side * rng.uniform(0.4, sidewalk)
            things.append(Thing("pedestrian", x, rng.uniform(6, 26), rng.uniform(1.55, 1.9), tuple(rng.uniform(0.1, 0.9, 3)), int(rng.integers(2**31))))
    return things


def drawn_appearance(seed: int) -> Appearance:
    """Returns the appearance that is drawn with the scene of a seed."""
    return Appearance.sample(np.random.default_rng(seed + 7))
