"""Captions of the small world, as a person would write them; the small models learn from these."""

import numpy as np

from .scene import Appearance, Scene, Task

TEMPLATES: dict[Task, tuple[str, ...]] = {
    "street": (
        "a {weather} {time} street scene with a {colour} {kind} ahead{people}",
        "{time} on a {weather} street, a {colour} {kind} is on the road{people}",
        "a {colour} {kind} on a {weather} city street, {time}{people}",
    ),
    "vehicle": (
        "a photo of a {colour} {kind} on a {weather} {time} street",
        "a {colour} {kind} in the middle of a {weather} street, {time}",
    ),
}
PEOPLE = ("", " and a pedestrian", " and two pedestrians", " and several pedestrians")


def describe(scene: Scene, appearance: Appearance, task: Task, rng: np.random.Generator) -> str:
    """Returns one sentence that names weather, time of day and the nearest vehicle with its colour."""
    return str(rng.choice(TEMPLATES[task])).format(
        weather=appearance.weather,
        time=appearance.time_of_day,
        colour=appearance.colour,
        kind=scene.kind,
        people=PEOPLE[min(scene.pedestrians, len(PEOPLE) - 1)],
    )
