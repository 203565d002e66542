"""What raters judge: counterfactuals, and controls whose right answers are known."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import write_atomically
from ..keys import digest
from ..run_folder import RunFolder, StoredImage
from ..types import COUNTERFACTUAL, ORIGINAL, PLACEBO
from .sampling import choose_evenly, share_out

FOLDER, ITEMS = "review", "items.json"
ITEMS_VERSION = 1
OTHER = "other"  # the kind of a control that shows the original of another source
KNOWN: Mapping[str, Mapping[str, str]] = {
    ORIGINAL: {"label": "yes", "edit": "no"},
    PLACEBO: {"edit": "no"},
    OTHER: {"label": "no"},
}
"""The right answers to the controls: a real image shows its label and no edit, a placebo shows no edit, and
the real image of another scene or class does not show the label."""


@dataclass(frozen=True)
class Item:
    """An image to judge, under the number that it has in `Review.items`.

    Attributes:
        kind: `counterfactual`, or that of a control: `original`, `placebo`, `other`.
        image: The id of the counterfactual whose label and edits are asked about.
        shown: The id of what is shown: an image, or the source of an original.
    """

    kind: str
    image: str
    shown: str


@dataclass(frozen=True)
class Review:
    """The images of a run that people judge."""

    folder: RunFolder
    items: tuple[Item, ...]

    @classmethod
    def open(cls, folder: RunFolder, count: int, control_share: float, seed: int) -> "Review":
        """Returns the review of a run; chooses its images when there is none yet.

        Args:
            folder: The run.
            count: How many images are judged, at most.
            control_share: The share of them that are controls.
            seed: Of the choice.
        """
        file = folder.path / FOLDER / ITEMS
        if not file.exists():
            chosen = cls(folder, tuple(_choose(folder, count, control_share, seed)))
            items = [asdict(item) for item in chosen.items]
            content = {"version": ITEMS_VERSION, "review": chosen.id, "items": items}
            write_atomically(file, json.dumps(content, indent=1))
        return cls.read(folder)

    @classmethod
    def read(cls, folder: RunFolder) -> "Review":
        """Returns the review of a run; raises a UserError if there is none, or it is of another version."""
        file = folder.path / FOLDER / ITEMS
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            items = tuple(Item(**item) for item in content["items"])
            version, review_id = content["version"], content["review"]
        except FileNotFoundError:
            raise UserError(
                f"{folder.path} has no review: start one with job=review run={folder.path}"
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{file} cannot be read, it is damaged: {error}") from error
        if version != ITEMS_VERSION:
            raise UserError(f"{file} has format {version}, this version of DILLEMA reads {ITEMS_VERSION}")
        review = cls(folder, items)
        if {item.image for item in items} - review.images.keys() or review.id != review_id:
            raise UserError(
                f"{file} is about other images than those of {folder.path}: the run was made again since. "
                f"Move {file.parent} away to start a new review"
            )
        return review

    @property
    def path(self) -> Path:
        """Returns the folder of the review's files."""
        return self.folder.path / FOLDER

    @cached_property
    def id(self) -> str:
        """Returns a hash of the judged images; answers name it, so that they fit to no other review."""
        keys = {image.id: image.key for image in self.images.values()}
        return digest([[item.kind, item.image, item.shown, keys[item.image]] for item in self.items])[:12]

    @cached_property
    def images(self) -> dict[str, StoredImage]:
        """Returns the counterfactual images of the run by id."""
        return {image.id: image for image in self.folder.generated()}

    @cached_property
    def groups(self) -> list[str]:
        """Returns the group of each item: that of its source, or the source itself."""
        images = [self.images[item.image] for item in self.items]
        return [image.group or image.source for image in images]

    def shown_file(self, number: int) -> Path:
        """Returns the file of the image that an item shows."""
        item = self.items[number]
        if item.kind == COUNTERFACTUAL:
            return self.images[item.image].path
        if item.kind == PLACEBO:
            return self._placebos[item.shown]
        return self.folder.path / "originals" / f"{item.shown}.png"

    def original_file(self, number: int) -> Path:
        """Returns the file of the original beside an item."""
        return self.images[self.items[number].image].original

    @cached_property
    def _placebos(self) -> dict[str, Path]:
        return {image.id: image.path for image in self.folder.placebos()}


def score_table(images: Sequence[StoredImage], names: Sequence[str]) -> np.ndarray:
    """Returns the scores of images by name (images, scores), NaN where there is none."""
    rows = [[image.verdict.scores.get(name, np.nan) for name in names] for image in images]
    return np.array(rows, float).reshape(len(images), len(names))


def _choose(folder: RunFolder, count: int, control_share: float, seed: int) -> list[Item]:
    images = list(folder.generated())
    if not images:
        raise UserError(f"{folder.path} has no generated image to judge")
    names = sorted({name for image in images for name in image.verdict.scores})
    controls = _choose_controls(folder, images, round(count * control_share), seed)
    scores = score_table(images, names)
    chosen = [images[row] for row in choose_evenly(scores, count - len(controls), seed)]
    items = [Item(COUNTERFACTUAL, image.id, image.id) for image in chosen] + controls
    # controls stand anywhere, and any first part of the order is a fair choice
    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))]


def _choose_controls(folder: RunFolder, images: Sequence[StoredImage], count: int, seed: int) -> list[Item]:
    """Returns the controls; a control is about the edits of a counterfactual of the run."""
    random = np.random.default_rng([seed, 1])
    edited = [image for image in images if image.counterfactual.edits]
    placebos = {image.source: image.id for image in folder.placebos()}
    pools = {
        ORIGINAL: edited,
        OTHER: edited if len({image.source for image in edited}) > 1 else [],
        PLACEBO: [image for image in edited if image.source in placebos],
    }
    kinds = [kind for kind, pool in pools.items() if pool]
    items = []
    for kind, wanted in share_out(count, kinds).items() if kinds else ():
        for row in random.permutation(len(pools[kind]))[:wanted]:
            image = pools[kind][row]
            shown = {ORIGINAL: image.source, PLACEBO: placebos.get(image.source, "")}.get(kind)
            shown = _find_other(image, edited, random) if shown is None else shown
            if shown:
                items.append(Item(kind, image.id, shown))
    return items


def _find_other(image: StoredImage, images: Sequence[StoredImage], random: np.random.Generator) -> str:
    """Returns a source of another label and group than an image's; "" if there is none."""
    sources = {
        other.source
        for other in images
        if other.source != image.source
        and other.label != image.label
        and (not image.group or other.group != image.group)
    }
    return str(random.choice(sorted(sources))) if sources else ""
