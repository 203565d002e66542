"""Pictures and masks of a scene in any weather, at any time of day, with any colour of the nearest vehicle."""

from collections.abc import Callable, Iterable

import cv2
import numpy as np

from .scene import CAMERA_HEIGHT, FOCAL, HEIGHT, SIZES, WIDTH, Appearance, Building, Scene, Thing, Vehicle
from .vehicle import SHAPES, Box, Wheel

Array = np.ndarray
Colour = tuple[float, float, float]

SCALE = 2  # everything is drawn at twice the size and averaged down; masks take every second pixel
FAR = 250.0

# SHIFT's class ids
BUILDING, PEDESTRIAN, POLE, ROAD_LINE, ROAD, SIDEWALK, VEGETATION, VEHICLE, SKY, TERRAIN = 1, 4, 5, 6, 7, 8, 9, 10, 13, 22
CLASSES = (BUILDING, PEDESTRIAN, POLE, ROAD_LINE, ROAD, SIDEWALK, VEGETATION, VEHICLE, SKY, TERRAIN)

PAINT: dict[str, Colour] = {
    "white": (0.93, 0.93, 0.93),
    "black": (0.045, 0.045, 0.05),
    "red": (0.8, 0.05, 0.05),
    "blue": (0.06, 0.18, 0.82),
    "green": (0.05, 0.52, 0.14),
    "yellow": (0.95, 0.76, 0.03),
}
MATERIAL: dict[str, Colour] = {
    "glass": (0.16, 0.2, 0.24),
    "dark": (0.1, 0.1, 0.1),
    "tyre": (0.05, 0.05, 0.05),
    "plate": (0.85, 0.85, 0.8),
    "sign": (0.1, 0.08, 0.02),
    "headlight": (0.95, 0.95, 0.85),
    "taillight": (0.55, 0.05, 0.04),
    "trousers": (0.13, 0.14, 0.2),
    "jacket": (0.33, 0.3, 0.3),
    "skin": (0.8, 0.6, 0.48),
}
GLOW: dict[str, Colour] = {"headlight": (1.0, 0.95, 0.75), "taillight": (0.9, 0.06, 0.04), "sign": (0.9, 0.6, 0.15)}

SKY_COLOURS: dict[tuple[str, str], tuple[Colour, Colour]] = {  # at the zenith and at the horizon
    ("clear", "daytime"): ((0.2, 0.47, 0.88), (0.72, 0.86, 0.97)),
    ("cloudy", "daytime"): ((0.56, 0.59, 0.64), (0.78, 0.79, 0.8)),
    ("rainy", "daytime"): ((0.33, 0.36, 0.41), (0.5, 0.52, 0.55)),
    ("foggy", "daytime"): ((0.78, 0.8, 0.81), (0.8, 0.81, 0.82)),
    ("snowy", "daytime"): ((0.68, 0.72, 0.78), (0.86, 0.88, 0.91)),
    ("clear", "dusk"): ((0.22, 0.2, 0.48), (1.0, 0.52, 0.22)),
    ("cloudy", "dusk"): ((0.33, 0.28, 0.38), (0.74, 0.46, 0.4)),
    ("rainy", "dusk"): ((0.2, 0.18, 0.25), (0.4, 0.3, 0.31)),
    ("foggy", "dusk"): ((0.58, 0.46, 0.48), (0.66, 0.5, 0.47)),
    ("snowy", "dusk"): ((0.38, 0.36, 0.5), (0.76, 0.58, 0.58)),
    ("clear", "night"): ((0.012, 0.02, 0.07), (0.05, 0.07, 0.16)),
    ("cloudy", "night"): ((0.07, 0.065, 0.07), (0.15, 0.125, 0.11)),
    ("rainy", "night"): ((0.025, 0.03, 0.04), (0.06, 0.065, 0.075)),
    ("foggy", "night"): ((0.13, 0.135, 0.145), (0.17, 0.17, 0.175)),
    ("snowy", "night"): ((0.09, 0.1, 0.15), (0.2, 0.2, 0.25)),
}
AMBIENT: dict[str, Colour] = {"daytime": (1.0, 1.0, 1.0), "dusk": (0.62, 0.47, 0.5), "night": (0.115, 0.125, 0.19)}
DIM = {"clear": 1.0, "cloudy": 0.82, "rainy": 0.66, "foggy": 0.88, "snowy": 0.9}
FOG_REACH = {"clear": 900.0, "cloudy": 600.0, "rainy": 130.0, "foggy": 17.0, "snowy": 80.0}  # metres to 1/e


def render(scene: Scene, appearance: Appearance) -> tuple[Array, Array]:
    """Returns the picture (160, 256, 3) and the mask (160, 256) of SHIFT's class ids, both uint8.

    The mask depends on the scene alone.
    """
    canvas = _Canvas(scene, appearance)
    canvas.ground()
    for building in scene.buildings:
        canvas.building(building)
    objects: list[tuple[float, Thing | Vehicle]] = [(t.z, t) for t in scene.things] + [(v.z, v) for v in scene.vehicles]
    for _, item in sorted(objects, key=lambda pair: -pair[0]):
        if isinstance(item, Vehicle):
            canvas.vehicle(item, item.colour or appearance.colour)
        elif item.kind == "tree":
            canvas.tree(item)
        elif item.kind == "light":
            canvas.street_light(item)
        else:
            canvas.pedestrian(item)
    return canvas.develop(), np.ascontiguousarray(canvas.classes[1::SCALE, 1::SCALE])


class _Canvas:
    """What is drawn of a scene before the light falls on it: albedo, emission, depth, class and shadow."""

    def __init__(self, scene: Scene, appearance: Appearance) -> None:
        size = (HEIGHT * SCALE, WIDTH * SCALE)
        self.scene, self.look = scene, appearance
        self.rng = np.random.default_rng(scene.seed + 1)
        self.albedo = np.zeros((*size, 3), np.uint8)
        self.emission = np.zeros((*size, 3), np.uint8)
        self.depth = np.full(size, FAR, np.float32)
        self.classes = np.full(size, SKY, np.uint8)
        self.shadow = np.zeros(size, np.uint8)
        self.pools = np.zeros((HEIGHT, WIDTH), np.float32)
        self.snow = appearance.weather == "snowy"
        self.lamps_on = appearance.time_of_day != "daytime"
        self.lights_on = self.lamps_on or appearance.weather in ("rainy", "foggy", "snowy")

    # ---- geometry

    def project(self, points: Array) -> Array:
        """Returns the pixels (n, 2) at drawing scale of points (n, 3) in metres: right, up, ahead."""
        z = np.maximum(points[:, 2], 1.0)
        x = self.scene.centre + FOCAL * points[:, 0] / z
        y = self.scene.horizon + FOCAL * (CAMERA_HEIGHT - points[:, 1]) / z
        return np.stack([x, y], 1) * SCALE

    def fill(self, pixels: Array, colour: Colour | Array, cls: int, depth: float, glow: Colour = (0, 0, 0)) -> None:
        points = (np.clip(pixels, -4000, 4000) * 16).astype(np.int32)
        rgb = tuple(float(min(max(c, 0), 1) * 255) for c in colour)
        cv2.fillPoly(self.albedo, [points], rgb, shift=4)
        cv2.fillPoly(self.classes, [points], cls, shift=4)
        cv2.fillPoly(self.depth, [points], depth, shift=4)
        cv2.fillPoly(self.emission, [points], tuple(float(c * 255) for c in glow), shift=4)

    def decal(self, quads: Iterable[Array], colour: Colour | Array, glow: Colour = (0, 0, 0)) -> None:
        points = [(np.clip(q, -4000, 4000) * 16).astype(np.int32) for q in quads]
        if points:
            cv2.fillPoly(self.albedo, points, tuple(float(min(max(c, 0), 1) * 255) for c in colour), shift=4)
            if any(glow):
                cv2.fillPoly(self.emission, points, tuple(float(c * 255) for c in glow), shift=4)

    def flat(self, x0: float, x1: float, z0: float, z1: float, colour: Colour, cls: int) -> None:
        """Paints a rectangle that lies on the ground; its depth is that of the ground."""
        quad = self.project(np.array([[x0, 0, z0], [x1, 0, z0], [x1, 0, z1], [x0, 0, z1]], float))
        points = [(np.clip(quad, -4000, 4000) * 16).astype(np.int32)]
        cv2.fillPoly(self.albedo, points, tuple(c * 255 for c in colour), shift=4)
        cv2.fillPoly(self.classes, points, cls, shift=4)

    def cast_shadow(self, x: float, z: float, width: float, reach: float) -> None:
        """Darkens the ground under a thing, and beside it when the sun is out."""
        strength = 150
        if self.look.weather == "clear" and self.look.time_of_day != "night":
            quad = self.project(
                np.array(
                    [
                        [x - width / 2, 0, z - 0.3],
                        [x + width / 2 + reach, 0, z + 0.2 * reach - 0.3],
                        [x + width / 2 + reach, 0, z + 0.2 * reach + 0.8],
                        [x - width / 2, 0, z + 0.8],
                    ]
                )
            )
            cv2.fillPoly(self.shadow, [(np.clip(quad, -4000, 4000) * 16).astype(np.int32)], 120, shift=4)
        foot = self.project(np.array([[x, 0, z]]))[0]
        axes = (int(FOCAL * SCALE * width * 0.55 / z), max(1, int(FOCAL * SCALE * 0.12 * width / z)))
        cv2.ellipse(self.shadow, (int(foot[0]), int(foot[1])), axes, 0, 0, 360, strength, -1)

    # ---- things

    def ground(self) -> None:
        s, snow, wet = self.scene, self.snow, self.look.weather == "rainy"
        left, right = s.road
        horizon = int(np.ceil(s.horizon * SCALE))
        rows = np.arange(horizon, HEIGHT * SCALE)
        self.classes[horizon:] = TERRAIN
        self.depth[horizon:] = np.minimum(FOCAL * CAMERA_HEIGHT / np.maximum((rows + 0.5) / SCALE - s.horizon, 0.01), FAR)[:, None]
        grass = (0.9, 0.92, 0.95) if snow else (0.27, 0.4, 0.17)
        self.albedo[horizon:] = [int(c * 255) for c in grass]
        pavement = (0.8, 0.82, 0.85) if snow else (0.42, 0.41, 0.4) if wet else (0.6, 0.58, 0.55)
        tar = (0.5, 0.51, 0.54) if snow else (0.16, 0.165, 0.18) if wet else (0.3, 0.3, 0.31)
        line = (0.74, 0.75, 0.77) if snow else (0.85, 0.85, 0.8)
        self.flat(left - s.sidewalk, right + s.sidewalk, 1, FAR, pavement, SIDEWALK)
        kerb = (0.75 * pavement[0], 0.75 * pavement[1], 0.75 * pavement[2])
        self.flat(left - 0.25, right + 0.25, 1, FAR, kerb, SIDEWALK)
        self.flat(left, right, 1, FAR, tar, ROAD)
        if snow:
            for lane in range(s.lanes):
                x = left + 0.4 + (lane + 0.5) * 3.3
                for track in (-0.8, 0.8):
                    self.flat(x + track - 0.25, x + track + 0.25, 1, FAR, (0.36, 0.37, 0.4), ROAD)
        for x in (left + 0.3, right - 0.3):
            self.flat(x - 0.08, x + 0.08, 1, 60, line, ROAD_LINE)
        middle = s.lanes // 2
        for lane in range(1, s.lanes):
            x = left + 0.4 + lane * 3.3
            if lane == middle and s.lanes > 2:
                self.flat(x - 0.1, x + 0.1, 1, 60, line, ROAD_LINE)
                continue
            for z in np.arange(1.0 + self.rng.uniform(0, 5), 55, 6.0):
                self.flat(x - 0.1, x + 0.1, z, z + 3, line, ROAD_LINE)
        if s.crossing:
            for x in np.arange(left + 0.5, right - 0.6, 1.1):
                self.flat(x, x + 0.55, s.crossing, s.crossing + 2.8, line, ROAD_LINE)

    def box(self, corners: Array, colour: Colour, cls: int, windows: dict[str, tuple[int, int]] | None = None) -> list[tuple[str, Array, float]]:
        """Paints the faces of a box that can be seen, far ones first; returns them as (name, 4 points in metres, light)."""
        b, t = corners[:4], corners[4:]
        faces = {
            "back": np.array([b[0], b[1], t[1], t[0]]),
            "front": np.array([b[2], b[3], t[3], t[2]]),
            "left": np.array([b[3], b[0], t[0], t[3]]),
            "right": np.array([b[1], b[2], t[2], t[1]]),
            "top": t,
        }
        centre, eye = corners.mean(0), np.array([0, CAMERA_HEIGHT, 0])
        seen = []
        for name, face in faces.items():
            normal = np.cross(face[1] - face[0], face[3] - face[0])
            middle = face.mean(0)
            if normal @ (middle - centre) < 0:
                normal = -normal
            if normal @ (middle - eye) < 0:
                normal = normal / (np.linalg.norm(normal) + 1e-9)
                light = float(np.clip(0.84 + normal @ np.array([-0.16, 0.22, -0.06]), 0.55, 1.1))
                seen.append((name, face, light))
        seen.sort(key=lambda f: -np.linalg.norm(f[1].mean(0) - eye))
        depth = max(float(corners[:, 2].mean()), 1.0)
        for _, face, light in seen:
            self.fill(self.project(face), np.array(colour) * light, cls, depth)
        return seen

    def building(self, b: Building) -> None:
        x = (b.x0, b.x1) if b.x0 < b.x1 else (b.x1, b.x0)
        corners = np.array([[x[i], h, z] for h in (0.0, b.height) for i, z in ((0, b.z0), (1, b.z0), (1, b.z1), (0, b.z1))])
        rng = np.random.default_rng(b.seed)
        wall = np.array(b.wall) * (0.9 if self.look.weather == "rainy" else 1)
        floors = max(1, int(b.height // 3))
        share = {"daytime": 0.0, "dusk": 0.35, "night": 0.55}[self.look.time_of_day]
        for name, face, light in self.box(corners, tuple(wall), BUILDING):
            if name == "top":
                continue
            n = max(2, int((b.z1 - b.z0 if name in ("left", "right") else x[1] - x[0]) // 2.6))
            u, v = (g.ravel() for g in np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(floors) + 0.5) / floors))
            du, dv = 0.27 / n, 0.27 / floors
            quads = np.stack([_on_face(face, u + a * du, v + c * dv) for a, c in ((-1, -1), (1, -1), (1, 1), (-1, 1))], 1)
            order = rng.random(len(quads))
            near = self._slices(face)
            if near > 3.5:  # windows of far buildings are smaller than a pixel
                pixels = [self.project(q) for q in quads]
                lit = order < share
                self.decal([p for p, on in zip(pixels, lit, strict=True) if not on], np.array((0.3, 0.36, 0.42)) * light)
                self.decal([p for p, on in zip(pixels, lit, strict=True) if on], (0.9, 0.75, 0.45), (0.95, 0.72, 0.32))
            if self.snow:
                cap = min(0.9, b.height * 0.08) / b.height
                self.decal(
                    [self.project(np.stack([_on_face(face, np.array([a]), np.array([c]))[0] for a, c in ((0, 1 - cap), (1, 1 - cap), (1, 1), (0, 1))]))],
                    (0.95, 0.96, 0.98),
                )
        # the depth of a long facade runs along it
        ends = self.project(np.array([[b.x0, 0, max(b.z0, 1.0)], [b.x0, 0, b.z1]]))
        lo, hi = sorted((int(ends[0, 0]), int(ends[1, 0])))
        lo, hi = max(lo, 0), min(hi, WIDTH * SCALE)
        if hi - lo > 1:
            columns = np.arange(lo, hi) / SCALE - self.scene.centre
            z = np.clip(FOCAL * b.x0 / np.where(np.abs(columns) < 0.5, 0.5 * np.sign(b.x0), columns), max(b.z0, 1.0), b.z1)
            part = self.depth[:, lo:hi]
            mine = (self.classes[:, lo:hi] == BUILDING) & (np.abs(part - max(float(corners[:, 2].mean()), 1.0)) < 1e-3)
            part[mine] = np.broadcast_to(z.astype(np.float32), part.shape)[mine]

    def _slices(self, face: Array) -> float:
        """Returns how many pixels high a floor of three metres is where the face is nearest."""
        return float(FOCAL * 3 / max(face[:, 2].min(), 1.0))

    def tree(self, t: Thing) -> None:
        rng = np.random.default_rng(t.seed)
        scale = FOCAL * SCALE / t.z
        foot = self.project(np.array([[t.x, 0, t.z]]))[0]
        trunk = 0.07 * t.height
        self.cast_shadow(t.x, t.z, t.height * 0.4, t.height * 0.5)
        crown = foot - [0, 0.62 * t.height * scale]
        stem = np.array([[-trunk / 2, 0], [trunk / 2, 0], [trunk / 3, -0.5 * t.height], [-trunk / 3, -0.5 * t.height]]) * scale + foot
        self.fill(stem, (0.3, 0.22, 0.15), VEGETATION, t.z)
        blobs = [(rng.uniform(-0.16, 0.16), rng.uniform(-0.22, 0.2), rng.uniform(0.17, 0.24)) for _ in range(5)]
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        circle = np.stack([np.cos(angle), np.sin(angle)], 1)
        for light, shift, shrink in ((0.72, 0.0, 1.0), (1.0, -0.05, 0.72)):
            for x, y, r in blobs:
                colour = np.array((0.86, 0.88, 0.9)) * (0.8 + 0.2 * light) if self.snow and light == 1.0 else np.array(t.tint) * light
                self.fill(crown + (np.array([x, y + shift]) + circle * r * shrink) * t.height * scale, colour, VEGETATION, t.z)

    def street_light(self, t: Thing) -> None:
        scale = FOCAL * SCALE / t.z
        foot = self.project(np.array([[t.x, 0, t.z]]))[0]
        arm = t.tint[0] * 1.4
        steel = (0.38, 0.4, 0.42)
        half = 0.075
        local = lambda points: np.array(points) * scale + foot  # noqa: E731
        self.fill(local([[-half, 0], [half, 0], [half, -t.height], [-half, -t.height]]), steel, POLE, t.z)
        x0, x1 = sorted((0.0, arm))
        self.fill(
            local([[x0 - half, -t.height - 0.07], [x1 + half, -t.height - 0.07], [x1 + half, -t.height + 0.07], [x0 - half, -t.height + 0.07]]),
            steel,
            POLE,
            t.z,
        )
        glow = (1.0, 0.88, 0.58) if self.lamps_on else (0.0, 0.0, 0.0)
        head = local([[arm - 0.32, -t.height + 0.05], [arm + 0.32, -t.height + 0.05], [arm + 0.22, -t.height + 0.25], [arm - 0.22, -t.height + 0.25]])
        self.fill(head, (0.8, 0.8, 0.75), POLE, t.z, glow)
        if self.lamps_on:
            spot = self.project(np.array([[t.x + arm, 0, t.z]]))[0] / SCALE
            axes = (max(1, int(4.5 * FOCAL / t.z)), max(1, int(4.5 * FOCAL * CAMERA_HEIGHT / t.z**2)))
            layer = np.zeros_like(self.pools)
            cv2.ellipse(layer, (int(spot[0]), int(spot[1])), axes, 0, 0, 360, 0.5, -1)
            self.pools = np.maximum(self.pools, layer)

    def pedestrian(self, t: Thing) -> None:
        h, scale = t.height, FOCAL * SCALE / t.z
        foot = self.project(np.array([[t.x, 0, t.z]]))[0]
        stride = np.random.default_rng(t.seed).uniform(0.04, 0.16)
        self.cast_shadow(t.x, t.z, 0.6, h * 0.5)
        for side in (-1, 1):
            leg = np.array([[side * stride - 0.08, 0], [side * stride + 0.08, 0], [side * 0.09 + 0.08, -0.5 * h], [side * 0.09 - 0.08, -0.5 * h]])
            self.fill(leg * scale + foot, (0.15, 0.16, 0.24), PEDESTRIAN, t.z)
        torso = np.array([[-0.2, -0.45 * h], [0.2, -0.45 * h], [0.25, -0.82 * h], [-0.25, -0.82 * h]])
        self.fill(torso * scale + foot, t.tint, PEDESTRIAN, t.z)
        angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        self.fill((np.stack([np.cos(angle), np.sin(angle)], 1) * 0.13 + [0, -0.91 * h]) * scale + foot, (0.8, 0.6, 0.48), PEDESTRIAN, t.z)

    def vehicle(self, v: Vehicle, colour: str) -> None:
        length, width, height = SIZES[v.kind]
        cos, sin = np.cos(v.yaw), np.sin(v.yaw)
        middle = v.z + 0.5 * (abs(cos) * length + abs(sin) * width)  # z is that of the nearest end

        def world(local: Array) -> Array:
            along, across, up = local.T
            return np.stack([v.x + along * sin + across * cos, up, middle + along * cos - across * sin], 1)

        self.cast_shadow(v.x, middle if abs(sin) > 0.7 else v.z + 0.4, width if abs(cos) > 0.7 else length, height * 0.8)
        paint = PAINT[colour]
        shape = SHAPES[v.kind]
        distance = {
            id(p): float(world(np.array([[p.along, p.w, p.r]]) if isinstance(p, Wheel) else np.array([[(p.l0 + p.l1) / 2, (p.w0 + p.w1) / 2, 0]]))[0, 2])
            for p in shape
        }
        boxes = [p for p in shape if isinstance(p, Box)]
        wheels = [p for p in shape if isinstance(p, Wheel)]
        if v.kind in ("motorcycle", "bicycle"):
            ordered: list[Box | Wheel] = sorted(shape, key=lambda p: -distance[id(p)] + (0.0 if isinstance(p, Wheel) else 1e-3))
        else:  # tyres first, bodies from the far end to the near one, discs of the near side last
            tyres = [b for b in boxes if b.material in ("tyre", "dark")]
            bodies = sorted((b for b in boxes if b not in tyres), key=lambda p: (p.h0 > 0.8 and v.kind == "car", -distance[id(p)]))
            ordered = [*sorted(tyres, key=lambda p: -distance[id(p)]), *bodies, *wheels]
        for part in ordered:
            if isinstance(part, Wheel):
                self.wheel(part, world, v)
            else:
                self.body(part, world, paint)

    def body(self, p: Box, world: Callable[[Array], Array], paint: Colour) -> None:
        bottom = [(p.l0, p.w0), (p.l0, p.w1), (p.l1, p.w1), (p.l1, p.w0)]
        top = [(p.l0 + p.back, p.w0 + p.side), (p.l0 + p.back, p.w1 - p.side), (p.l1 - p.front, p.w1 - p.side), (p.l1 - p.front, p.w0 + p.side)]
        corners = world(np.array([(*c, p.h0) for c in bottom] + [(*c, p.h1) for c in top]))
        rider = p.material in ("trousers", "jacket", "skin")
        colour = paint if p.material == "paint" else MATERIAL[p.material]
        for name, face, light in self.box(corners, colour, PEDESTRIAN if rider else VEHICLE):
            if self.snow and name == "top" and p.material == "paint":
                self.decal([self.project(face)], (0.93, 0.94, 0.96))
            for u0, u1, v0, v1, material in p.decals.get(name, ()):
                quad = _on_face(face, np.array([u0, u1, u1, u0]), np.array([v0, v0, v1, v1]))
                glow = GLOW.get(material, (0.0, 0.0, 0.0)) if self.lights_on else (0.0, 0.0, 0.0)
                if not self.lamps_on:
                    glow = (0.6 * glow[0], 0.6 * glow[1], 0.6 * glow[2])
                self.decal([self.project(quad)], np.array(MATERIAL[material]) * (light if material != "glass" else 1), glow)

    def wheel(self, p: Wheel, world: Callable[[Array], Array], v: Vehicle) -> None:
        angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        rim = np.stack([p.along + p.r * np.cos(angle), np.full(16, p.w), p.r + p.r * np.sin(angle)], 1)
        points = world(rim)
        outward = np.sign(p.w) * np.array([np.cos(v.yaw), 0, -np.sin(v.yaw)])
        depth = max(float(points[:, 2].mean()), 1.0)
        if p.ring:
            scale = FOCAL * SCALE / depth
            outline = [(self.project(points) * 16).astype(np.int32)]
            thick = max(2, int(p.ring * scale))
            cv2.polylines(self.albedo, outline, True, (12, 12, 12), thick, shift=4)
            cv2.polylines(self.classes, outline, True, VEHICLE, thick, shift=4)
            cv2.polylines(self.depth, outline, True, depth, thick, shift=4)
        elif outward @ (points.mean(0) - np.array([0, CAMERA_HEIGHT, 0])) < 0:
            self.fill(self.project(points), MATERIAL["tyre"], VEHICLE, depth)
            hub = points.mean(0) + (points - points.mean(0)) * 0.5
            self.decal([self.project(hub)], (0.5, 0.5, 0.52))

    # ---- light, weather and air

    def develop(self) -> Array:
        """Returns the picture: light on the albedo, reflections, fog, glow and what falls from the sky."""
        look, s = self.look, self.scene
        shrink = lambda a: cv2.resize(a, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)  # noqa: E731
        albedo, emission = shrink(self.albedo) / 255, shrink(self.emission) / 255
        depth, shadow = shrink(self.depth), cv2.GaussianBlur(shrink(self.shadow), (0, 0), 0.7) / 255
        classes = self.classes[1::SCALE, 1::SCALE]
        ground = np.isin(classes, (ROAD, ROAD_LINE, SIDEWALK, TERRAIN))
        rough = self.rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32)
        albedo += (0.012 * rough * ground)[..., None]

        ambient = np.array(AMBIENT[look.time_of_day], np.float32) * DIM[look.weather]
        light = np.broadcast_to(ambient, albedo.shape) * (1 - 0.75 * shadow * ground)[..., None]
        if self.lamps_on:
            strength = 0.62 if look.time_of_day == "night" else 0.3
            pools = cv2.GaussianBlur(self.pools, (0, 0), 2.5)
            columns = (np.arange(WIDTH) - s.centre) / 90
            beam = np.exp(-((depth / 19) ** 2)) * np.exp(-(columns[None] ** 2)) * (classes != SKY)
            light = light + strength * (pools * ground)[..., None] * np.array((1, 0.85, 0.6), np.float32)
            light = light + strength * beam[..., None] * np.array((1, 0.97, 0.88), np.float32)
        image = albedo * light

        sky = self.sky()
        above = (depth > FAR * 0.98) & (classes == SKY)
        cover = shrink((self.classes == SKY).astype(np.float32))[..., None]
        image = np.where(above[..., None], sky, image) * (1 - cover) + sky * cover
        image = image * (1 - emission.max(2, keepdims=True)) + emission
        if look.weather == "rainy":
            image = self.reflect(image, classes)
        fog = np.array(SKY_COLOURS[look.weather, look.time_of_day][1], np.float32)
        clearness = np.exp(-depth / FOG_REACH[look.weather])[..., None]
        image = image * clearness + fog * (1 - clearness)
        if self.lights_on:
            spread = {"foggy": (2.0, 5.0), "rainy": (1.6, 4.0)}.get(look.weather, (1.2, 3.5))
            glow = emission * (clearness**0.5)
            power = 1.0 if look.time_of_day == "night" else 0.55 if look.time_of_day == "dusk" else 0.3
            image = image + power * (0.5 * cv2.GaussianBlur(glow, (0, 0), spread[0]) + 0.8 * cv2.GaussianBlur(glow, (0, 0), spread[1]))
        if look.weather in ("rainy", "snowy"):
            image = self.fall(image)
        image = image + self.rng.normal(0, 0.006, image.shape).astype(np.float32)
        return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)

    def sky(self) -> Array:
        look, s = self.look, self.scene
        zenith, horizon = (np.array(c, np.float32) for c in SKY_COLOURS[look.weather, look.time_of_day])
        t = np.clip(np.arange(HEIGHT) / s.horizon, 0, 1)[:, None, None] ** 1.5
        sky = np.broadcast_to(zenith * (1 - t) + horizon * t, (HEIGHT, WIDTH, 3)).copy()
        rng = np.random.default_rng(s.seed + 2)
        if look.weather in ("cloudy", "clear"):
            thick = look.weather == "cloudy"
            noise = sum(
                cv2.resize(rng.random((h, w)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) * a
                for h, w, a in ((6, 5, 0.55), (12, 10, 0.3), (26, 20, 0.15))
            )
            cover = np.clip((noise - (0.42 if thick else 0.62)) * (4 if thick else 5), 0, 0.85 if thick else 0.7)[..., None]
            tone = {
                "daytime": (0.93, 0.94, 0.96),
                "dusk": (0.92, 0.6, 0.5) if not thick else (0.5, 0.38, 0.42),
                "night": (0.25, 0.21, 0.18) if thick else (0.06, 0.07, 0.13),
            }[look.time_of_day]
            if look.weather == "clear" and look.time_of_day == "night":
                cover = cover * 0
            sky = sky * (1 - cover) + np.array(tone, np.float32) * cover
        if look.weather == "clear" and look.time_of_day == "night":
            stars = rng.random((HEIGHT, WIDTH)) < 0.008
            sky[stars] = rng.uniform(0.4, 0.95, (int(stars.sum()), 1))
            x, y = int(rng.uniform(70, 190)), int(rng.uniform(10, 28))
            cv2.circle(sky, (x, y), 5, (0.9, 0.9, 0.8), -1, lineType=cv2.LINE_AA)
        return sky

    def reflect(self, image: Array, classes: Array) -> Array:
        """Mirrors what stands above the horizon in the wet road, stretched and broken by ripples."""
        rows = np.arange(HEIGHT)
        source = np.clip(2 * self.scene.horizon - rows, 0, HEIGHT - 1).astype(int)
        mirror = cv2.GaussianBlur(image[source], (0, 0), sigmaX=1.2, sigmaY=5)
        ripple = cv2.GaussianBlur(self.rng.random((HEIGHT, WIDTH)).astype(np.float32), (0, 0), sigmaX=5, sigmaY=0.8)
        ripple = np.clip((ripple - 0.5) * 6 + 0.6, 0.2, 1)
        wet = np.isin(classes, (ROAD, ROAD_LINE)) * 0.55 + (classes == SIDEWALK) * 0.25
        weight = (wet * ripple)[..., None].astype(np.float32)
        return image * (1 - 0.7 * weight) + mirror * weight

    def fall(self, image: Array) -> Array:
        """Adds streaks of rain or flakes of snow, near ones larger."""
        rng = np.random.default_rng(self.scene.seed + 3)
        layer = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
        night = self.look.time_of_day == "night"
        if self.look.weather == "rainy":
            slant = rng.uniform(-0.25, 0.25)
            for x, y, n in zip(rng.uniform(0, WIDTH, 170), rng.uniform(-10, HEIGHT, 170), rng.uniform(5, 13, 170), strict=True):
                a, b = (int(x * SCALE), int(y * SCALE)), (int((x + slant * n) * SCALE), int((y + n) * SCALE))
                cv2.line(layer, a, b, 150 if n > 9 else 100, 1)
            tone, gain = ((0.55, 0.6, 0.68), 0.9) if night else ((0.86, 0.88, 0.92), 1.1)
        else:
            for x, y, r in zip(rng.uniform(0, WIDTH, 230), rng.uniform(0, HEIGHT, 230), rng.gamma(2.0, 0.55, 230), strict=True):
                cv2.circle(layer, (int(x * SCALE), int(y * SCALE)), max(1, int(r)), 220, -1)
            tone, gain = ((0.7, 0.72, 0.78), 1.0) if night else ((0.98, 0.98, 1.0), 1.0)
        cover = np.clip(cv2.resize(layer, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255 * gain, 0, 1)
        return image * (1 - cover) + np.array(tone, np.float32) * cover


def _on_face(face: Array, u: Array, v: Array) -> Array:
    """Returns the points (n, 3) at (u, v) of a face given by its corners bottom left, bottom right, top right, top left."""
    u, v = u[:, None], v[:, None]
    return face[0] * (1 - u) * (1 - v) + face[1] * u * (1 - v) + face[2] * u * v + face[3] * (1 - u) * v
