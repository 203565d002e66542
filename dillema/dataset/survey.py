"""Describes the data in a folder: what is wrong with it, how often, and examples."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..backend import Dataset
from ..decoding import find_file_encoding
from ..errors import UserError
from ..types import Sample
from .check import check_masks, check_sample
from .files import list_files, make_printable
from .folder import Folder
from .layout import find_list_files

SAMPLES_TO_CHECK = 48
EXAMPLES = 3
RARE_CLASSES = 8  # that are named
FEW_IMAGES = 6  # of a class, below which no figure of it is certain
LAYOUTS = (
    "one folder for each class, images with masks (folders images/ and masks/), Cityscapes, BDD100K, ACDC, "
    "SHIFT, ImageNet, or what the library datasets saves"
)


def list_problems(dataset: Dataset, samples: Sequence[Sample]) -> Iterator[str]:
    """Yields what is wrong with the samples of a data set, and the sizes of their images.

    Up to 48 samples are read.
    """
    if isinstance(dataset, Folder) and dataset.task == "segmentation":
        images, masks = dataset.list_unmatched()
        yield from _describe_unmatched(images, "image", "mask")
        yield from _describe_unmatched(masks, "mask", "image")
    step = max(len(samples) // SAMPLES_TO_CHECK, 1)
    checked = samples[::step][:SAMPLES_TO_CHECK]
    sizes: Counter[tuple[int, int]] = Counter()
    messages = []
    for sample in checked:
        try:
            check_sample(sample, dataset)
            sizes[sample.image.size] += 1
        except Exception as error:  # whatever a damaged file raises
            messages.append(str(error))
    if messages:
        listed = "; ".join(messages[:EXAMPLES])
        yield f"{len(messages)} of {len(checked)} images looked at cannot be used: {listed}"
    if sizes:
        listed = ", ".join(f"{w}x{h} ({number})" for (w, h), number in sizes.most_common(EXAMPLES))
        more = f" and {len(sizes) - EXAMPLES} other sizes" if len(sizes) > EXAMPLES else ""
        yield f"sizes of the {sum(sizes.values())} images looked at: {listed}{more}"
    yield from _describe_rare_classes(dataset, samples)
    try:
        check_masks(samples, dataset)
    except UserError as error:
        yield str(error)


def describe_content(root: Path) -> Iterator[str]:
    """Yields lines about a folder whose layout no option reads."""
    names = [make_printable(name) for name in list_files(root)]
    endings = Counter(Path(name).suffix.lower() or "no ending" for name in names)
    listed = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(5))
    yield f"It holds {len(names)} files ({listed or 'none'}), such as {', '.join(names[:EXAMPLES]) or '-'}."
    for file in find_list_files(root):
        yield (
            f"{file} may list images (its first line: {_read_first_line(root / file)!r}). Lists of file "
            "names and labels are read from metadata.csv beside the images (columns: file_name, label)"
        )
    yield f"Layouts: {LAYOUTS}. Labels are needed: images alone cannot be tested."


def describe_lists(root: Path, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for each text file in a folder that may list images, and that its settings do not use."""
    used = {Path(str(value)).name for value in settings.values()} | {"classes.csv"}
    for file in find_list_files(root):
        if file not in used:
            yield (
                f"{file} is not read (its first line: {_read_first_line(root / file)!r}): all images of the "
                "folder are taken, or dataset.limit of them"
            )


def _describe_unmatched(files: Sequence[str], what: str, other: str) -> Iterator[str]:
    if files:
        plural = "" if len(files) == 1 else "s"
        yield (
            f"{len(files)} {what}{plural} without {'an' if other == 'image' else 'a'} {other}, such as "
            f"{', '.join(files[:EXAMPLES])}: they fail in a run, which stops after max_failures"
        )


def _describe_rare_classes(dataset: Dataset, samples: Sequence[Sample]) -> Iterator[str]:
    counts = Counter(dataset.classes[sample.label] for sample in samples if sample.label is not None)
    rare = [f"{name} ({number})" for name, number in counts.most_common()[::-1] if number < FEW_IMAGES]
    if rare:
        more = f" and {len(rare) - RARE_CLASSES} more" if len(rare) > RARE_CLASSES else ""
        yield f"classes with fewer than {FEW_IMAGES} images: {', '.join(rare[:RARE_CLASSES])}{more}"


def _read_first_line(path: Path) -> str:
    with path.open(encoding=find_file_encoding(path), errors="replace") as lines:
        return next(lines, "").strip()[:80]
