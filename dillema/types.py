"""The values that the steps pass to each other."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from .decoding import Colour, decode_image, decode_mask

ORIGINAL, COUNTERFACTUAL, PLACEBO, TRUTH = "original", "counterfactual", "placebo", "truth"
REFERENCE = "reference"
"""The kinds of images on which models are tested.

The truth is a render of the scene of a counterfactual, a reference a real image of a condition.
"""


@dataclass(frozen=True)
class Sample:
    """One labelled source image. Its bytes are read when they are needed and are not kept in memory.

    Attributes:
        id: Stable and unique in its data set; a safe file name.
        read_image: Returns the bytes of the encoded image.
        read_mask: Returns the bytes of the encoded mask: class ids, or colours of `mask_colours`.
        label: Class id, for classification.
        attributes: Attributes of the image that the data set gives, such as its weather.
        group: The video or scene of the image: it is never split between training and test, and it is the
            unit of confidence intervals.
        read_depth: Returns the distance of every pixel in metres (height, width).
        mask_colours: The class id of each colour, for masks that are painted in colours.
    """

    id: str
    read_image: Callable[[], bytes]
    read_mask: Callable[[], bytes] | None = None
    label: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    read_depth: Callable[[], np.ndarray] | None = None
    mask_colours: Mapping[Colour, int] = field(default_factory=dict)

    @property
    def image(self) -> Image.Image:
        """Returns the image in RGB, turned as a viewer shows it; raises an ItemError if it is unreadable."""
        return decode_image(self.read_image())

    @property
    def mask(self) -> np.ndarray | None:
        """Returns the class ids (height, width), uint8, or None for a sample without a mask.

        Raises an ItemError when it cannot be read.
        """
        return None if self.read_mask is None else decode_mask(self.read_mask(), self.mask_colours)

    @cached_property
    def digest(self) -> str:
        """Returns a hash of the label, the bytes of the files and the colours of the masks."""
        content = hashlib.sha256(f"{self.label}".encode())
        content.update(self.read_image())
        if self.read_mask:
            content.update(self.read_mask())
        if self.mask_colours:
            content.update(repr(sorted(self.mask_colours.items())).encode())
        return content.hexdigest()


@dataclass(frozen=True)
class Caption:
    """One or more sentences about a sample.

    Attributes:
        text: The sentences.
        uncorrected: What the captioner wrote, where `text` names the class of the label in place of another
            one; "" elsewhere.
    """

    text: str
    uncorrected: str = ""


@dataclass(frozen=True)
class Expression:
    """How a caption expresses an attribute.

    Attributes:
        span: The words of the caption; "" if it does not express the attribute, but words can be inserted.
        value: The listed value that the words mean or that the data set gives; "" if it is unknown.
        alternatives: The values that a language model proposes for an attribute without listed values.
    """

    span: str
    value: str = ""
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edit:
    """One change to a caption.

    Attributes:
        attribute: What changes.
        original: The span of the caption that is replaced; "" for an insertion.
        replacement: The new value.
        phrase: The words that express the new value in the counterfactual; "" for the value itself.
    """

    attribute: str
    original: str
    replacement: str
    phrase: str = ""

    @property
    def words(self) -> str:
        """Returns the words that express the new value in the counterfactual."""
        return self.phrase or self.replacement


@dataclass(frozen=True)
class Variant:
    """One variant that is planned for a sample: the attributes to change, each with its allowed values.

    An attribute without listed values may take any value. A variant without changes makes a placebo.
    """

    changes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Counterfactual:
    """A caption with its edits applied.

    Attributes:
        text: The sentence handed to the diffusion model.
        edits: The edits; empty for a placebo.
        method: How the text was written, if an editor has several methods.
        alternatives: The replacements that were proposed for each attribute, if the editor asks for several.
        caption: The text before the edits; the pipeline adds it.
        unchanged: For a placebo that gates judge, the edits that other counterfactuals of its source have,
            one for each attribute.
    """

    text: str
    edits: tuple[Edit, ...]
    method: str = ""
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    caption: str = ""
    unchanged: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Control:
    """The structural image handed to the diffusion model, and its weight."""

    image: Image.Image
    weight: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """Whether a generated image counts.

    Attributes:
        scores: The scores of the gates, by "<gate>.<score>".
        reasons: Why the image does not count; empty if it counts.
        checked: Whether any gate could judge the image. An image that no gate checked counts, but is not
            called valid.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    checked: bool = True

    @property
    def valid(self) -> bool:
        """Returns whether the image counts."""
        return not self.reasons
