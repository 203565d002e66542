"""The nouns of DILLEMA: what flows from stage to stage."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from PIL import Image

Task = Literal["classification", "segmentation"]


@dataclass(frozen=True)
class Sample:
    """One labelled source image; its bytes are read when they are needed and not kept.

    `id` is stable and path-safe, and unique in its data set; `group` names what must not be split (a sequence, say).
    `read_image` and `read_mask` return the bytes of encoded files; a mask holds class ids in its first channel. `read_depth`
    returns how far away everything is (height, width), in metres, where the data set knows.
    """

    id: str
    read_image: Callable[[], bytes]
    read_mask: Callable[[], bytes] | None = None
    label: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    read_depth: Callable[[], np.ndarray] | None = None

    @property
    def image(self) -> Image.Image:
        """Returns the decoded RGB image; raises OSError when the file is damaged."""
        return Image.open(io.BytesIO(self.read_image())).convert("RGB")

    @property
    def mask(self) -> np.ndarray | None:
        """Returns the class ids (height, width), uint8, or None for a sample without a mask."""
        if self.read_mask is None:
            return None
        pixels = np.asarray(Image.open(io.BytesIO(self.read_mask())))
        return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])

    @cached_property
    def digest(self) -> str:
        """Returns a hash of the sample's label and of the bytes of its files."""
        content = hashlib.sha256(f"{self.label}".encode())
        content.update(self.read_image())
        if self.read_mask:
            content.update(self.read_mask())
        return content.hexdigest()


@dataclass(frozen=True)
class Caption:
    """One or more sentences about a sample."""

    text: str


@dataclass(frozen=True)
class Edit:
    """One change to a caption: a span of it, and what stands there afterwards."""

    attribute: str
    original: str
    replacement: str


@dataclass(frozen=True)
class Counterfactual:
    """A caption with its edits applied."""

    text: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Control:
    """The structural image handed to the diffusion model, and how much it weighs."""

    image: Image.Image
    weight: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """The raw validity scores of a generated image, and whether it counts."""

    scores: Mapping[str, float]
    valid: bool


class Dataset(Protocol):
    """Labelled samples of one task.

    `classes[i]` names class id i, `colours[i]` paints it; ids in `ignored` are not scored. `vary` lists the attributes
    that may change without changing a label, each with its allowed values (none listed: any value).
    """

    name: str
    task: Task
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    ignored: frozenset[int]
    vary: Mapping[str, tuple[str, ...]]

    def samples(self) -> list[Sample]:
        """Returns the samples, in a stable order; raises a UserError when there are none."""
        ...


@runtime_checkable
class Renders(Protocol):
    """A data set that can make the real image of what an edit stands for, so that the truth is known."""

    def render(self, sample: Sample, edits: Sequence[Edit]) -> Callable[[], Image.Image] | None:
        """Returns what makes the image of an edited sample, or None where an edit says what cannot be made."""
        ...
