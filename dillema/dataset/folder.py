"""Your own images: a folder a class, or a mask an image."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import UserError
from ..types import Sample, Task
from . import subset
from .classes import Classed, Classes, read_classes, readable
from .files import IMAGES, ids, listed, missing, reader


@dataclass
class Folder(Classed):
    """Images below `<root>/<images>/<split>/`, as deep as you like.

    Without `masks` the first folder of an image names its class. With `masks`, a folder beside `images` or the same one, every image
    has a mask there: the same path less `image_suffix` (null: any extension) and plus `mask_suffix`, with class ids in its first channel.
    `classes_file` (see `read_classes`) gives the ids; class folders may do without, and then count in the order of their names.
    `group` is a regular expression: images in whose paths it finds the same belong together, such as the frames of a video.
    """

    root: str
    images: str = ""
    masks: str | None = None
    split: str = ""
    image_suffix: str | None = None
    mask_suffix: str = ".png"
    classes_file: str | None = None
    group: str | None = None
    per_class: int | None = None
    limit: int | None = None
    seed: int = 0
    vary: dict[str, list[str]] = field(default_factory=dict)
    name: str = "folder"

    @property
    def task(self) -> Task:
        """Returns what the images are for."""
        return "classification" if self.masks is None else "segmentation"

    def samples(self) -> list[Sample]:
        """Returns the samples by path; raises a UserError when there are none, or when folders and classes do not match."""
        return self._labelled() if self.masks is None else self._masked(self.masks)

    @cached_property
    def _known(self) -> Classes:
        if self.masks is not None:
            return classes_of_masks(self.classes_file)
        return Classes(readable(sorted({_first(name) for name in self._names}))) if self.classes_file is None else read_classes(self.classes_file)

    @cached_property
    def _names(self) -> list[str]:
        """Returns the paths of the images below their folder."""
        folder = self._folder(self.images)
        suffix = self.image_suffix
        names = [name for name in listed(folder) if (name.lower().endswith(IMAGES) if suffix is None else name.endswith(suffix))]
        if self.masks is not None and self._folder(self.masks) == folder:
            names = sorted(set(names) - set(self._mask_names(folder)))
        if not names:
            raise UserError(f"no images in {folder}: their names should end in {' or '.join(IMAGES) if suffix is None else suffix} (dataset.image_suffix)")
        return names

    def _labelled(self) -> list[Sample]:
        folder, folders = self._folder(self.images), sorted({_first(name) for name in self._names})
        if "" in folders:
            raise UserError(f"{folder} holds images that lie in no folder of a class. If they have masks, set dataset.masks to the folder of those")
        labels = self._known.ids(folders, str(folder))
        named = list(zip(ids(self._names), self._names, strict=True))
        kept = subset(named, self.limit, self.seed, self.per_class, [_first(name) for name in self._names])
        return [Sample(sample_id, reader(folder, name), label=labels[_first(name)], group=self._group(name)) for sample_id, name in kept]

    def _masked(self, masks: str) -> list[Sample]:
        image_folder, mask_folder = self._folder(self.images), self._folder(masks)
        images = {name.removesuffix(self.image_suffix) if self.image_suffix else name.rpartition(".")[0]: name for name in self._names}
        if len(images) < len(self._names):
            raise UserError(f"{image_folder} holds images that differ in their extension alone, so that masks have two images: set dataset.image_suffix")
        found = {name.removesuffix(self.mask_suffix): name for name in self._mask_names(mask_folder)}
        if not images.keys() & found.keys():
            shared = next(iter(images))
            raise UserError(f"no image of {image_folder} has a mask in {mask_folder}: {images[shared]} should have {shared}{self.mask_suffix} there")
        stems = sorted(images.keys() | found.keys())
        absent = "the {} of {} is missing in {}"
        return [
            Sample(
                sample_id,
                reader(image_folder, images[stem]) if stem in images else missing(absent.format("image", sample_id, image_folder)),
                reader(mask_folder, found[stem]) if stem in found else missing(absent.format("mask", sample_id, mask_folder)),
                group=self._group(stem),
            )
            for sample_id, stem in subset(list(zip(ids(stems), stems, strict=True)), self.limit, self.seed)
        ]

    def _group(self, path: str) -> str:
        try:
            found = re.search(self.group, path) if self.group else None
        except re.error as error:
            raise UserError(f"dataset.group={self.group} is no regular expression: {error}") from error
        return found[0] if found else ""

    def _mask_names(self, folder: Path) -> list[str]:
        return [name for name in listed(folder) if name.endswith(self.mask_suffix)]

    def _folder(self, part: str) -> Path:
        folder = Path(self.root, part, self.split)
        if not folder.exists():
            options = "dataset.root, dataset.images, dataset.masks and dataset.split"
            raise UserError(f"no data in {folder.absolute()}: there is no such folder. {options} say where it is; dataset=mini_shift needs no data")
        return folder


def classes_of_masks(classes_file: str | None) -> Classes:
    """Returns the classes of a file; raises a UserError when there is no file, or one without colours to paint masks in."""
    if classes_file is None:
        raise UserError("masks hold numbers: set dataset.classes_file to a CSV file with the columns name, id, colour and ignore that says what they mean")
    known = read_classes(classes_file)
    if not known.colours:
        raise UserError(f"dataset.classes_file={classes_file} needs a column colour with values like #804080, for there are masks to paint")
    return known


def _first(name: str) -> str:
    return name.rpartition("/")[0].partition("/")[0]
