"""The small world as a data set: a scene is rendered, always identically, when its bytes are read."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import ClassVar, cast

import numpy as np
from PIL import Image

from .. import types
from ..errors import UserError
from ..fields import NotNegative, Positive
from ..mini.scene import (
    COLOURS,
    TIMES,
    VEHICLE_KINDS,
    WEATHERS,
    Appearance,
    Task,
    drawn_appearance,
    sample_scene,
    scene_seed,
)
from . import shift
from .selection import subset

SPLITS = ("train", "val", "test")
SCENES = 5000  # in each split
FIELDS = {"weather": "weather", "time of day": "time_of_day", "colour": "colour"}  # of Appearance
VALUES = {"weather": WEATHERS, "time of day": TIMES, "colour": COLOURS}


@dataclass
class _Mini:
    """Rendered scenes; every split has its own.

    `where` gives the allowed values of an attribute: a scene with another value gets one of these instead.
    """

    split: str = "val"
    limit: Positive | None = None
    seed: NotNegative = 0
    where: dict[str, list[str]] = field(default_factory=dict)
    vary: dict[str, list[str]] = field(default_factory=dict)

    scenes: ClassVar[Task]
    available: ClassVar[int] = SCENES
    where_values: ClassVar[Mapping[str, Sequence[str]]] = VALUES

    def samples(self) -> list[types.Sample]:
        """Returns the samples, in the order of the scenes.

        Raises a UserError for a split or a `where` that the small world does not have.
        """
        if self.split not in SPLITS:
            raise UserError(
                f"the small world has no split {self.split!r}: set dataset.split to one of "
                f"{', '.join(SPLITS)}"
            )
        for name, values in self.where.items():
            if not values or not set(values) <= set(VALUES.get(name, ())):
                raise UserError(
                    f"no scene matches dataset.where={{{name}: {values}}}. The small world has {VALUES}"
                )
        return [self._sample(index) for index in subset(range(SCENES), self.limit, self.seed)]

    def render(self, sample: types.Sample, edits: Sequence[types.Edit]) -> Callable[[], Image.Image] | None:
        """Returns a function that renders the edited scene; None for edits that it cannot render."""
        if any(edit.replacement not in VALUES.get(edit.attribute, ()) for edit in edits):
            return None
        changes = {edit.attribute: edit.replacement for edit in edits}
        return partial(render_as, sample.id, {**sample.attributes, **changes})

    def _sample(self, index: int) -> types.Sample:
        seed = scene_seed(self.split, self.scenes, index)
        look = drawn_appearance(seed)
        for name, values in self.where.items():
            if getattr(look, FIELDS[name]) not in values:
                look = replace(look, **{FIELDS[name]: values[seed % len(values)]})
        return types.Sample(
            id=f"{self.split}-{self.scenes}-{index:04}",
            read_image=partial(_image_file, seed, self.scenes, look),
            read_mask=partial(_mask_file, seed, self.scenes, look),
            label=VEHICLE_KINDS.index(sample_scene(seed, "vehicle").kind)
            if self.scenes == "vehicle"
            else None,
            attributes={name: getattr(look, key) for name, key in FIELDS.items()},
        )


@dataclass
class MiniShift(_Mini):
    """Street scenes with masks of SHIFT's classes."""

    name: str = field(default="mini_shift", init=False)
    task: str = field(default="segmentation", init=False)
    classes: tuple[str, ...] = field(default=shift.CLASSES, init=False)
    colours: tuple[tuple[int, int, int], ...] = field(default=shift.COLOURS, init=False)
    ignored: frozenset[int] = field(default=shift.IGNORED, init=False)

    scenes: ClassVar[Task] = "street"


@dataclass
class MiniImageNet(_Mini):
    """Scenes with one dominant vehicle, labelled by its kind.

    They also have masks for control images. `colours` belongs to the masks, so its ids are those of SHIFT
    and not those of the labels.
    """

    name: str = field(default="mini_imagenet", init=False)
    task: str = field(default="classification", init=False)
    classes: tuple[str, ...] = field(default=VEHICLE_KINDS, init=False)
    colours: tuple[tuple[int, int, int], ...] = field(default=shift.COLOURS, init=False)
    ignored: frozenset[int] = field(default=frozenset(), init=False)

    scenes: ClassVar[Task] = "vehicle"


def render_as(sample_id: str, attributes: Mapping[str, str]) -> Image.Image:
    """Returns the scene of a sample with these attributes: weather, time of day and colour."""
    split, scenes, index = sample_id.split("-")
    look = Appearance(**{key: attributes[name] for name, key in FIELDS.items()})
    return Image.fromarray(_render(scene_seed(split, scenes, int(index)), cast(Task, scenes), look)[0])


@lru_cache(maxsize=32)  # an image and its mask are read one after the other
def _render(seed: int, task: Task, look: Appearance) -> tuple[np.ndarray, np.ndarray]:
    from ..mini.render import render

    return render(sample_scene(seed, task), look)


@lru_cache(maxsize=256)  # the steps read the same images repeatedly, of some 70 KB each
def _image_file(seed: int, task: Task, look: Appearance) -> bytes:
    return _png(_render(seed, task, look)[0])


@lru_cache(maxsize=4096)  # a mask is read for each generated image, and has some 2 KB
def _mask_file(seed: int, task: Task, look: Appearance) -> bytes:
    return _png(_render(seed, task, look)[1])


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
