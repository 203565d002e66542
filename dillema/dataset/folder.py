"""Images of the user: one folder for each class, or one mask for each image."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import UserError
from ..fields import NotNegative, Positive
from ..types import Sample
from .classes import Classes, HasClasses, make_readable, read_classes, read_classes_of_masks, sort_names
from .files import (
    IMAGES,
    Read,
    list_files,
    list_folders,
    make_ids,
    make_printable,
    normalise,
    read_later,
    report_missing,
)
from .selection import subset

log = logging.getLogger(__name__)

CLASSES_FILE = "classes.csv"
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
PARTS = {"images", "image", "imgs", "img", "masks", "mask", "labels", "annotations"}


@dataclass
class Folder(HasClasses):
    """Images below `<root>/<images>/<split>/`, at any depth.

    Without `masks`, the first folder of an image is the name of its class. With `masks`, a folder in `root`,
    every image has a mask there: its path has `mask_suffix` instead of `image_suffix` (null: any extension).
    `classes_file` (see `read_classes`; null: classes.csv in `root`, if it exists) gives the ids. Class
    folders need no such file: their ids follow the order of their names (as numbers if all are numbers).
    `group` is a regular expression: images with the same match in their paths are a group, such as the frames
    of a video.
    """

    root: str
    images: str = ""
    masks: str | None = None
    split: str = ""
    image_suffix: str | None = None
    mask_suffix: str = ".png"
    classes_file: str | None = None
    group: str | None = None
    per_class: Positive | None = None
    limit: Positive | None = None
    seed: NotNegative = 0
    vary: dict[str, list[str]] = field(default_factory=dict)
    name: str = "folder"

    @property
    def task(self) -> str:
        """Returns the name of the task."""
        return "classification" if self.masks is None else "segmentation"

    @property
    def available(self) -> int:
        """Returns the number of samples before limits."""
        return len(self._names if self.masks is None else self._stems)

    def samples(self) -> list[Sample]:
        """Returns the samples by path; raises a UserError if there are none, or for unknown classes."""
        return self._list_labelled() if self.masks is None else self._list_masked()

    def list_unmatched(self) -> tuple[list[str], list[str]]:
        """Returns the images that have no mask, and the masks that have no image; for a set with masks."""
        images, masks = self._image_names, self._mask_names
        return (
            [make_printable(images[stem]) for stem in sorted(images.keys() - masks.keys())],
            [make_printable(masks[stem]) for stem in sorted(masks.keys() - images.keys())],
        )

    @cached_property
    def _classes_path(self) -> str | None:
        """Returns the path of the classes file; None if there is none."""
        default_path = Path(self.root).expanduser() / CLASSES_FILE
        if self.classes_file is not None or not default_path.is_file():
            return self.classes_file
        log.info("The classes are those of %s", default_path)
        return str(default_path)

    @cached_property
    def _table_of_classes(self) -> Classes:
        if self.masks is not None:
            return read_classes_of_masks(self._classes_path, self._list_masks)
        if self._classes_path is not None:
            return read_classes(self._classes_path)
        return Classes(make_readable(self._class_folders, str(self._find_folder(self.images))))

    @cached_property
    def _names(self) -> list[str]:
        """Returns the paths of the images below their folder."""
        folder, suffix = self._find_folder(self.images), self.image_suffix
        names = list_files(folder)
        names = [n for n in names if (n.lower().endswith(IMAGES) if suffix is None else n.endswith(suffix))]
        if self.masks is not None and self._find_folder(self.masks) == folder:
            names = sorted(set(names) - set(self._mask_names.values()))
        if not names:
            endings = " or ".join(IMAGES) if suffix is None else suffix
            raise UserError(
                f"no images in {folder}: their names should end in {endings} (dataset.image_suffix)"
            )
        return names

    @cached_property
    def _class_folders(self) -> list[str]:
        """Returns the class folders in the order of their ids, also those without images."""
        folder = self._find_folder(self.images)
        if any("/" not in name for name in self._names):
            raise UserError(
                f"{folder} holds images that lie in no folder of a class. If they have masks, set "
                "dataset.masks to the "
                "folder of those"
            )
        folders = sort_names(list_folders(folder))
        if self._classes_path is None:
            _refuse_other_layouts(folder, folders)
        if empty := sorted(set(folders) - {_get_first(name) for name in self._names}):
            names = ", ".join(map(make_printable, empty[:8]))
            log.warning("%s: no image that can be read in %s; the classes keep their ids", folder, names)
        return folders

    @cached_property
    def _mask_names(self) -> dict[str, str]:
        """Returns the paths of the masks below their folder by their stems."""
        names = list_files(self._find_folder(self.masks or ""))
        return {normalise(n.removesuffix(self.mask_suffix)): n for n in names if n.endswith(self.mask_suffix)}

    @cached_property
    def _image_names(self) -> dict[str, str]:
        """Returns the paths of the images below their folder by the part that their masks share."""
        suffix = self.image_suffix
        names = {
            normalise(n.removesuffix(suffix) if suffix else n.rpartition(".")[0]): n for n in self._names
        }
        if len(names) < len(self._names):
            raise UserError(
                f"{self._find_folder(self.images)} holds images that differ in their extension alone, so "
                "that masks have "
                "two images: set dataset.image_suffix"
            )
        return names

    @cached_property
    def _stems(self) -> list[str]:
        return sorted(self._image_names.keys() | self._mask_names.keys())

    def _list_masks(self) -> list[Read]:
        folder = self._find_folder(self.masks or "")
        return [read_later(folder, name) for name in self._mask_names.values()]

    def _list_labelled(self) -> list[Sample]:
        folder, names = self._find_folder(self.images), self._names
        classes = [_get_first(name) for name in names]
        if self._classes_path is None:
            labels = {name: i for i, name in enumerate(self._class_folders)}
        else:
            with_images = [name for name in self._class_folders if name in set(classes)]
            labels = self._table_of_classes.find_ids(with_images, str(folder))
        pairs = list(zip(make_ids(names), names, strict=True))
        selected = subset(pairs, self.limit, self.seed, self.per_class, classes)
        return [
            Sample(
                sample_id,
                read_later(folder, name),
                label=labels[_get_first(name)],
                group=self._find_group(name),
            )
            for sample_id, name in selected
        ]

    def _list_masked(self) -> list[Sample]:
        image_folder, mask_folder = self._find_folder(self.images), self._find_folder(self.masks or "")
        images, masks, stems = self._image_names, self._mask_names, self._stems
        if not images.keys() & masks.keys():
            stem, name = next(iter(images.items()))
            raise UserError(
                f"no image of {image_folder} has a mask in {mask_folder}: {name} should have "
                f"{stem}{self.mask_suffix} "
                "there"
            )
        colours = self._table_of_classes.mask_colours
        absent = "the {} of {} is missing in {}"
        samples = []
        for sample_id, stem in subset(list(zip(make_ids(stems), stems, strict=True)), self.limit, self.seed):
            no_image = report_missing(absent.format("image", sample_id, image_folder))
            no_mask = report_missing(absent.format("mask", sample_id, mask_folder))
            samples.append(
                Sample(
                    sample_id,
                    read_later(image_folder, images[stem]) if stem in images else no_image,
                    read_later(mask_folder, masks[stem]) if stem in masks else no_mask,
                    group=self._find_group(stem),
                    mask_colours=colours,
                )
            )
        return samples

    def _find_group(self, path: str) -> str:
        try:
            match = re.search(self.group, path) if self.group else None
        except re.error as error:
            raise UserError(f"dataset.group={self.group} is no regular expression: {error}") from error
        return make_printable(match[0]) if match else ""

    def _find_folder(self, part: str) -> Path:
        folder = Path(self.root, part, self.split).expanduser()
        if not folder.exists():
            raise UserError(
                f"no data in {folder.absolute()}: there is no such folder. dataset.root, dataset.images, "
                "dataset.masks "
                "and dataset.split say where it is; dataset=mini_shift needs no data"
            )
        return folder


def _refuse_other_layouts(folder: Path, folders: Sequence[str]) -> None:
    """Raises a UserError for folders that are probably no classes, unless a classes file has them."""
    for names, settings in ((SPLITS, "dataset.split"), (PARTS, "dataset.images and dataset.masks")):
        stray = [name for name in folders if name.lower() in names]
        if len(stray) == len(folders):
            raise UserError(
                f"{folder} holds {', '.join(stray)}, which are no classes: choose with {settings}"
            )
        if stray:
            others = [name for name in folders if name not in stray]
            listing = ", ".join(map(make_printable, others[:5]))
            raise UserError(
                f"{folder} holds {', '.join(stray)} beside {listing}: is it a class? If it is not, move it "
                "away or set "
                f"{settings}; if it is, list all classes in {CLASSES_FILE} there, one a line below the line: "
                "name"
            )


def _get_first(name: str) -> str:
    return name.partition("/")[0]
