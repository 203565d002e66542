"""Recognises how a folder of data is laid out, and which option reads it."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..decoding import find_file_encoding
from .classes import COLUMNS
from .files import IMAGES
from .files import list_folders as list_folders_of
from .folder import CLASSES_FILE, PARTS, SPLITS
from .imagenet import KAGGLE, is_class_folder, is_list_of_labels

SPLIT_ORDER = ("val", "validation", "valid", "test", "testing", "dev", "train", "training")
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "rgb", "frames", "jpegimages", "input", "inputs")
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "gt", "semseg", "segmentationclass",
    "segmentation", "targets",
)  # fmt: skip
MASK_ENDING = re.compile(r"[_-](mask|masks|label|labels|seg|gt)\.png$", re.IGNORECASE)
FILES_TO_LOOK_AT = 400  # of a folder, to match the names of images and masks
LIST_FILES = (".txt", ".csv", ".jsonl", ".json", ".tsv")


@dataclass(frozen=True)
class Layout:
    """How a folder of data is laid out.

    Attributes:
        kind: In words.
        option: The option that reads it, such as `dataset=cityscapes`.
        settings: The settings of the data set that differ from the option's.
        notes: What else a user should know about it.
    """

    kind: str
    option: str
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def recognise(root: Path) -> Layout | None:
    """Returns the layout of a folder, or of the only folder in it; None for none that an option reads."""
    inside = list_folders(root)
    # one folder with a name of its own is rather a data set than the only class
    may_hold_all = len(inside) == 1 and inside[0].casefold() not in {*SPLITS, *PARTS, *IMAGE_FOLDERS}
    for find_layout in RECOGNISERS:
        if layout := find_layout(root):
            is_one_class = may_hold_all and find_layout is _class_folders
            return (recognise(root / inside[0]) if is_one_class else None) or layout
    return recognise(root / inside[0]) if len(inside) == 1 else None


def find_list_files(root: Path) -> list[str]:
    """Returns the names of text files directly in a folder that may list images."""
    return sorted(p.name for p in root.iterdir() if p.suffix.lower() in LIST_FILES and p.is_file())


def _cityscapes(root: Path) -> Layout | None:
    if not _holds(root, "leftImg8bit", "gtFine"):
        return None
    split, notes = _choose_split(root / "leftImg8bit")
    masks = root / "gtFine" / split
    if not next(masks.rglob("*_labelTrainIds.png"), None):
        notes.append(f"{masks} has no *_labelTrainIds.png: run csCreateTrainIdLabelImgs of cityscapesscripts")
    return Layout("Cityscapes", "dataset=cityscapes", {"root": str(root), "split": split}, notes)


def _bdd100k(root: Path) -> Layout | None:
    if not _holds(root, "images/10k", "labels/sem_seg/masks"):
        return None
    split, notes = _choose_split(root / "images/10k")
    return Layout("BDD100K (10K images)", "experiment=bdd100k", {"root": str(root), "split": split}, notes)


def _acdc(root: Path) -> Layout | None:
    if not _holds(root, "rgb_anon", "gt"):
        return None
    conditions = list_folders(root / "rgb_anon")
    condition = "fog" if "fog" in conditions else next(iter(conditions), "")
    split, notes = _choose_split(root / "rgb_anon" / condition)
    if others := [name for name in conditions if name != condition]:
        notes.append(
            f"it has the conditions {', '.join(others)} too: dataset.images and dataset.masks choose"
        )
    parts = {"images": f"rgb_anon/{condition}", "masks": f"gt/{condition}"}
    return Layout("ACDC", "experiment=acdc", {"root": str(root), "split": split, **parts}, notes)


def _shift(root: Path) -> Layout | None:
    views = sorted(
        path
        for pattern in ("discrete/*/*/*", "continuous/*/*/*/*")
        for path in root.glob(pattern)
        if (path / "img").is_dir() or (path / "img.zip").is_file()
    )
    if not views:
        return None

    def rank(path: Path) -> tuple[bool, int, bool]:
        parts = path.relative_to(root).parts
        return (parts[1] != "images", _rank_split(parts[-2]), parts[-1] != "front")

    parts = min(views, key=rank).relative_to(root).parts
    speed = f"{parts[0]}/{parts[2]}" if parts[0] == "continuous" else parts[0]
    settings = {"root": str(root), "split": parts[-2], "view": parts[-1]}
    settings |= {"framerate": parts[1], "shift_type": speed}
    names = ", ".join("/".join(path.relative_to(root).parts) for path in views[:8])
    return Layout("SHIFT", "dataset=shift", settings, [f"it has {names}"])


def _imagenet(root: Path) -> Layout | None:
    kind, option = "photographs of ImageNet in folders of WordNet ids", "dataset=imagenet"
    for base in (root / KAGGLE, root):
        splits = [name for name in sorted(list_folders(base), key=_rank_split) if name.lower() in SPLITS]
        for split in splits:
            if any(map(is_class_folder, list_folders(base / split))):
                return Layout(kind, option, {"root": str(root), "split": split})
    if any(map(is_class_folder, list_folders(root))):
        return Layout(kind, option, {"root": str(root)})
    lists = [name for name in find_list_files(root) if is_list_of_labels(root / name)]
    flat = next((base for base in (root, root / "val") if _count_images(base)), None)
    if lists and flat is not None:
        settings = {"root": str(root), "labels": str(root / lists[0])}
        return Layout(f"photographs of ImageNet with the list {lists[0]}", option, settings)
    return None


def _hugging_face(root: Path) -> Layout | None:
    if not any((root / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")):
        metadata = [path for path in root.glob("**/metadata.*") if path.suffix in (".csv", ".jsonl")]
        if not metadata:
            return None
    splits = [name for name in sorted(list_folders(root), key=_rank_split) if name.lower() in SPLITS]
    names = {"val": "validation", "valid": "validation"}
    split = names.get(splits[0], splits[0]) if splits else "train"
    note = "dataset.image, dataset.label and dataset.mask name its columns"
    settings = {"path": str(root), "split": split}
    return Layout("a data set of the library datasets", "dataset=huggingface", settings, [note])


def _images_and_masks(root: Path) -> Layout | None:
    for base in (root, *_folders_of_splits(root)):
        names = list_folders(base)
        images = [name for name in names if name.lower() in IMAGE_FOLDERS]
        masks = [name for name in names if name.lower() in MASK_FOLDERS]
        pairs = [(image, mask) for image in images for mask in masks]
        pairs += [("", mask) for mask in masks if not images and _count_images(base)]
        for image, mask in pairs:
            split, notes = _choose_split(base / image) if image else ("", [])
            suffixes = _match_suffixes(base / image / split, base / mask / split)
            if suffixes:
                settings = {"root": str(base), "images": image, "masks": mask, "split": split, **suffixes}
                return Layout("images with masks", "dataset=folder", settings, notes)
    names = _list_names(root)
    endings = Counter(match[0] for name in names if (match := MASK_ENDING.search(name)))
    if endings:
        settings = {"root": str(root), "images": "", "masks": "", "mask_suffix": endings.most_common(1)[0][0]}
        return Layout("images with masks beside them", "dataset=folder", settings)
    return None


def _class_folders(root: Path) -> Layout | None:
    split, notes = _choose_split(root)
    candidates = [("", split), *(("images", inner) for inner in ("", split))] if split else []
    for images, part in [*candidates, ("", ""), ("images", _choose_split(root / "images")[0])]:
        folder = root / images / part
        classes = [name for name in list_folders(folder) if name.lower() not in SPLITS | PARTS]
        with_images = [name for name in classes if _has_images(folder / name)]
        if with_images and not _count_images(folder):
            settings = {"root": str(root), "images": images, "split": part}
            kind = f"images in {len(with_images)} class folders"
            empty = [name for name in classes if name not in with_images]
            extra = [f"no images in {', '.join(empty[:5])}"] if empty else []
            return Layout(kind, "dataset=folder", settings, [*notes, *extra])
    return None


RECOGNISERS: Sequence[Callable[[Path], Layout | None]] = (
    _cityscapes, _bdd100k, _acdc, _shift, _imagenet, _hugging_face, _images_and_masks, _class_folders,
)  # fmt: skip


def find_classes_file(root: Path) -> Path | None:
    """Returns a classes file in a folder: classes.csv, or another CSV file with its columns."""
    files = sorted(root.glob("*.csv"), key=lambda path: path.name != CLASSES_FILE)
    return next((path for path in files if _is_classes_file(path)), None)


def _is_classes_file(path: Path) -> bool:
    with path.open(encoding=find_file_encoding(path), errors="replace") as file:
        first = file.readline(200)
    columns = [cell.strip().lower() for cell in first.split(",")]
    return "name" in columns and set(columns) <= set(COLUMNS)


def list_folders(folder: Path) -> list[str]:
    """Returns the folders directly in a folder; none where there is no such folder."""
    return list_folders_of(folder) if folder.is_dir() else []


def _holds(root: Path, *parts: str) -> bool:
    return all((root / part).is_dir() for part in parts)


def _rank_split(name: str) -> int:
    return SPLIT_ORDER.index(name.lower()) if name.lower() in SPLIT_ORDER else len(SPLIT_ORDER)


def _choose_split(folder: Path) -> tuple[str, list[str]]:
    """Returns the split to test on, "" without splits, and a note about the others."""
    splits = sorted((n for n in list_folders(folder) if n.lower() in SPLITS), key=_rank_split)
    if not splits:
        return "", []
    others = f"dataset.split also takes {', '.join(splits[1:])}"
    return splits[0], [others] if splits[1:] else []


def _folders_of_splits(root: Path) -> list[Path]:
    names = [name for name in list_folders(root) if name.lower() in SPLITS]
    return [root / name for name in sorted(names, key=_rank_split)]


def _list_names(folder: Path) -> list[str]:
    """Returns the paths of the first files below a folder."""
    names: list[str] = []
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(path).relative_to(folder)
        names += [(below / name).as_posix() for name in sorted(files) if not name.startswith(".")]
        if len(names) > FILES_TO_LOOK_AT:
            break
    return names[:FILES_TO_LOOK_AT]


def _has_images(folder: Path) -> bool:
    return any(name.lower().endswith(IMAGES) for name in _list_names(folder))


def _count_images(folder: Path) -> int:
    """Returns how many images lie directly in a folder."""
    if not folder.is_dir():
        return 0
    return sum(entry.name.lower().endswith(IMAGES) for entry in os.scandir(folder) if entry.is_file())


def _match_suffixes(images: Path, masks: Path) -> dict[str, str | None] | None:
    """Returns the suffixes of images and masks that belong together; None if no image has a mask."""
    image_names = [name for name in _list_names(images) if name.lower().endswith(IMAGES)]
    mask_names = [name for name in _list_names(masks) if name.lower().endswith(".png")]
    best: tuple[int, dict[str, str | None]] = (0, {})
    for image_suffix in (None, _common_suffix(image_names)):
        stems = {
            name.removesuffix(image_suffix) if image_suffix else name.rpartition(".")[0]
            for name in image_names
        }
        for mask_suffix in (".png", _common_suffix(mask_names)):
            count = sum(n.endswith(mask_suffix) and n.removesuffix(mask_suffix) in stems for n in mask_names)
            if count > best[0]:
                best = count, {"image_suffix": image_suffix, "mask_suffix": mask_suffix}
    return best[1] or None


def _common_suffix(names: Sequence[str]) -> str:
    """Returns what all names end with, from a separator on: "_rgb.png" of a1_rgb.png and b1_rgb.png."""
    letters = zip(*(name[::-1] for name in names), strict=False)  # from the end of the names
    common = itertools.takewhile(lambda column: len(set(column)) == 1, letters)
    match = re.search(r"[_.-].*", "".join(column[0] for column in common)[::-1])
    return match[0] if match else ".png"
