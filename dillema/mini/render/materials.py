"""The colours of materials in white light, and those of lamps; RGB from 0 to 1."""

Colour = tuple[float, float, float]

NO_GLOW: Colour = (0.0, 0.0, 0.0)

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
LAMP_GLOW: dict[str, Colour] = {
    "headlight": (1.0, 0.95, 0.75),
    "taillight": (0.9, 0.06, 0.04),
    "sign": (0.9, 0.6, 0.15),
}
