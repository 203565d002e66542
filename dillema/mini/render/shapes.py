"""The shapes of the vehicles: tapered boxes and wheels in metres, with decals for glass and lamps."""

from dataclasses import dataclass, field

Decal = tuple[float, float, float, float, str]
"""A rectangle on a face: left, right, bottom and top as shares of the face, and its material."""

Decals = dict[str, tuple[Decal, ...]]
"""Decals by the name of their face."""

RIDER_MATERIALS = ("trousers", "jacket", "skin")


@dataclass(frozen=True)
class Box:
    """A box from (l0, w0, h0) to (l1, w1, h1): l forward, w to the right, h up.

    The top is narrower by the tapers `front`, `back` and `side`.
    """

    l0: float
    l1: float
    w0: float
    w1: float
    h0: float
    h1: float
    material: str = "paint"
    front: float = 0.0
    back: float = 0.0
    side: float = 0.0
    decals: Decals = field(default_factory=dict)


@dataclass(frozen=True)
class Wheel:
    """A wheel of radius r centred at (along, w, r): a ring of the given thickness, or a solid disc."""

    along: float
    w: float
    r: float
    ring: float = 0.0


def _lamps(bottom: float, top: float, width: float = 0.16) -> Decals:
    """Returns headlights, and taillights with a number plate."""
    spans = ((0.03, 0.03 + width), (0.97 - width, 0.97))
    headlights = tuple((left, right, bottom, top, "headlight") for left, right in spans)
    taillights = tuple((left, right, bottom, top, "taillight") for left, right in spans)
    return {"front": headlights, "back": (*taillights, (0.38, 0.62, 0.12, 0.3, "plate"))}


def _window_row(
    count: int, bottom: float, top: float, left: float = 0.03, right: float = 0.97
) -> tuple[Decal, ...]:
    step = (right - left) / count
    gap = 0.08 * step
    return tuple(
        (left + i * step + gap, left + (i + 1) * step - gap, bottom, top, "glass") for i in range(count)
    )


def _wheels(axles: tuple[float, ...], w: float, r: float) -> tuple[Box | Wheel, ...]:
    """Returns the tyres, then the discs, of the left and the right end of each axle."""
    ends = [(axle, side) for axle in axles for side in (-1, 1)]
    tyres = [
        Box(
            axle - r,
            axle + r,
            side * w - 0.12,
            side * w + 0.12,
            0,
            2 * r * 0.9,
            "tyre",
            front=r / 2,
            back=r / 2,
        )
        for axle, side in ends
    ]
    return (*tyres, *(Wheel(axle, side * (w + 0.13), r) for axle, side in ends))


def _rider(seat: float, lean: float) -> tuple[Box, ...]:
    """Returns a rider who sits `seat` metres high and leans forward."""
    return (
        Box(-0.25, 0.25, -0.2, 0.2, 0.45, seat, "trousers"),
        Box(-0.22, 0.12, -0.24, 0.24, seat, seat + 0.6, "jacket", front=-lean, back=lean, side=0.04),
        Box(lean - 0.16, lean + 0.12, -0.13, 0.13, seat + 0.6, seat + 0.9, "skin", side=0.02),
    )


_TRUCK_DOORS: tuple[Decal, ...] = (
    (0.49, 0.51, 0.04, 0.96, "dark"),
    (0.05, 0.95, 0.03, 0.05, "dark"),
    (0.05, 0.95, 0.94, 0.96, "dark"),
)

_CAR_WINDSCREEN: Decal = (0.07, 0.93, 0.12, 0.86, "glass")

SHAPES: dict[str, tuple[Box | Wheel, ...]] = {
    "car": (
        *_wheels((-1.35, 1.35), 0.76, 0.33),
        Box(-2.2, 2.2, -0.9, 0.9, 0.3, 0.88, front=0.12, back=0.06, side=0.05, decals=_lamps(0.5, 0.82)),
        Box(
            -1.75,
            0.95,
            -0.84,
            0.84,
            0.88,
            1.46,
            front=0.62,
            back=0.42,
            side=0.14,
            decals={
                "front": (_CAR_WINDSCREEN,),
                "back": (_CAR_WINDSCREEN,),
                "left": _window_row(2, 0.12, 0.86, 0.1, 0.9),
                "right": _window_row(2, 0.12, 0.86, 0.1, 0.9),
            },
        ),
    ),
    "van": (
        *_wheels((-1.5, 1.6), 0.86, 0.36),
        Box(
            1.5,
            2.45,
            -0.97,
            0.97,
            0.32,
            1.2,
            front=0.2,
            side=0.04,
            decals={"front": _lamps(0.35, 0.7)["front"]},
        ),
        Box(
            -2.45,
            1.7,
            -1.0,
            1.0,
            0.32,
            2.2,
            front=0.45,
            side=0.06,
            decals={
                "front": ((0.08, 0.92, 0.5, 0.9, "glass"),),
                "back": (
                    (0.08, 0.47, 0.58, 0.9, "glass"),
                    (0.53, 0.92, 0.58, 0.9, "glass"),
                    (0.495, 0.505, 0.05, 0.95, "dark"),
                    (0.02, 0.1, 0.25, 0.5, "taillight"),
                    (0.9, 0.98, 0.25, 0.5, "taillight"),
                    (0.4, 0.6, 0.1, 0.18, "plate"),
                ),
                "left": ((0.7, 0.92, 0.55, 0.9, "glass"),),
                "right": ((0.7, 0.92, 0.55, 0.9, "glass"),),
            },
        ),
    ),
    "truck": (
        *_wheels((-2.9, -1.9, 2.8), 1.02, 0.5),
        Box(-3.7, 3.6, -0.9, 0.9, 0.45, 0.95, "dark", decals=_lamps(0.3, 0.8, 0.14)),
        Box(
            2.1,
            3.8,
            -1.18,
            1.18,
            0.55,
            2.6,
            front=0.15,
            side=0.04,
            decals={
                "front": (
                    (0.08, 0.92, 0.52, 0.9, "glass"),
                    (0.05, 0.2, 0.1, 0.22, "headlight"),
                    (0.8, 0.95, 0.1, 0.22, "headlight"),
                ),
                "left": ((0.3, 0.85, 0.52, 0.88, "glass"),),
                "right": ((0.3, 0.85, 0.52, 0.88, "glass"),),
            },
        ),
        Box(
            -3.8,
            1.9,
            -1.22,
            1.22,
            0.95,
            3.4,
            decals={
                "back": _TRUCK_DOORS,
                "left": ((0.02, 0.98, 0.0, 0.05, "dark"),),
                "right": ((0.02, 0.98, 0.0, 0.05, "dark"),),
            },
        ),
    ),
    "bus": (
        *_wheels((-3.0, 3.2), 1.1, 0.48),
        Box(
            -5.25,
            5.25,
            -1.25,
            1.25,
            0.35,
            3.1,
            front=0.1,
            back=0.05,
            side=0.06,
            decals={
                "front": (
                    (0.06, 0.94, 0.36, 0.84, "glass"),
                    (0.2, 0.8, 0.87, 0.96, "sign"),
                    (0.05, 0.2, 0.1, 0.2, "headlight"),
                    (0.8, 0.95, 0.1, 0.2, "headlight"),
                ),
                "back": (
                    (0.12, 0.88, 0.5, 0.85, "glass"),
                    (0.2, 0.8, 0.88, 0.96, "sign"),
                    (0.04, 0.13, 0.1, 0.34, "taillight"),
                    (0.87, 0.96, 0.1, 0.34, "taillight"),
                    (0.3, 0.7, 0.1, 0.3, "dark"),
                ),
                "left": _window_row(7, 0.5, 0.88),
                "right": _window_row(7, 0.5, 0.88),
            },
        ),
    ),
    "motorcycle": (
        Box(-1.0, -0.4, -0.1, 0.1, 0, 0.6, "tyre", front=0.1, back=0.1),
        Box(0.4, 1.0, -0.08, 0.08, 0, 0.6, "tyre", front=0.1, back=0.1),
        Wheel(-0.7, 0.11, 0.32),
        Wheel(-0.7, -0.11, 0.32),
        Wheel(0.7, 0.09, 0.32),
        Wheel(0.7, -0.09, 0.32),
        Box(
            -0.85,
            0.75,
            -0.26,
            0.26,
            0.38,
            0.88,
            front=0.15,
            back=0.1,
            side=0.06,
            decals={
                "back": ((0.3, 0.7, 0.6, 0.9, "taillight"),),
                "front": ((0.25, 0.75, 0.5, 0.9, "headlight"),),
            },
        ),
        Box(0.3, 0.7, -0.2, 0.2, 0.85, 1.2, front=0.15, back=0.05, side=0.04),
        Box(0.35, 0.42, -0.4, 0.4, 1.02, 1.1, "dark"),
        *_rider(0.88, 0.1),
    ),
    "bicycle": (
        Wheel(-0.55, 0.0, 0.36, ring=0.07),
        Wheel(0.55, 0.0, 0.36, ring=0.07),
        Box(-0.6, 0.55, -0.045, 0.045, 0.7, 0.84),
        Box(-0.1, 0.5, -0.045, 0.045, 0.34, 0.46, front=-0.05, back=0.1),
        Box(-0.58, -0.5, -0.05, 0.05, 0.02, 0.7, "tyre"),
        Box(
            -0.85,
            -0.35,
            -0.34,
            -0.08,
            0.36,
            0.78,
            side=0.02,
            decals={"back": ((0.3, 0.7, 0.7, 0.9, "taillight"),)},
        ),
        Box(-0.85, -0.35, 0.08, 0.34, 0.36, 0.78, side=0.02),
        Box(0.42, 0.48, -0.3, 0.3, 0.98, 1.06, "dark"),
        *_rider(0.9, 0.18),
    ),
}
