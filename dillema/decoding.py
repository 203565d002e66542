"""Decodes the bytes of files to pixels and text, according to the metadata of the file."""

import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import ItemError, UserError

log = logging.getLogger(__name__)

Colour = tuple[int, int, int]

LOSSY_FORMATS = ("JPEG", "MPO", "AVIF")
MIN_RANGE = 4096
"""16-bit images whose largest value is below this would come out black: their range is not that of 16 "
"bits."""


PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", b"\x00\x00\x00\x00IEND\xaeB`\x82"


class UnreadableImage(ItemError):
    """The bytes are no image, or are ambiguous; the message completes "the image of x ..."."""


class DamagedImage(UserError):
    """An image of a store or a run folder is damaged, or is not there.

    Attributes:
        path: Its path.
    """

    def __init__(self, message: str, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


def decode_image(content: bytes) -> Image.Image:
    """Returns an image as a viewer shows it: turned by its EXIF orientation, RGB, 8 bits a channel.

    Takes the upper 8 of 16 bits and decimals from 0 to 1; transparent pixels become white. Raises an
    UnreadableImage for damaged files, and for values of unknown range.
    """
    image = _open(content)
    if image.mode == "F":
        return _scale_decimals(image).convert("RGB")
    if image.mode.startswith("I"):
        return _scale_integers(image).convert("RGB")
    if image.has_transparency_data:
        _report_once("Images with transparent parts are put on white")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode == "CMYK":
        _report_once("CMYK images are converted to RGB without a colour profile")
    return image.convert("RGB")


def decode_mask(content: bytes, colours: Mapping[Colour, int] | None = None) -> np.ndarray:
    """Returns the class ids of a mask (height, width), uint8.

    Ids are the values of a mask with one channel (0 and 1 with one bit), the indices of a palette, or the
    first of several channels. With `colours`, the class id of each colour, masks may also be painted in these
    colours, or in grey (0 and 255). Raises an UnreadableImage for damaged files, lossy compression, and
    values that are no class ids.
    """
    image = _open(content)
    if image.format in LOSSY_FORMATS or (image.format == "WEBP" and b"VP8 " in content[:64]):
        raise UnreadableImage(
            f"is a lossy {image.format}, whose compression changes class ids: save masks as PNG"
        )
    if image.mode in ("RGB", "RGBA", "RGBX"):
        return _decode_colours(np.asarray(image)[..., :3], colours or {})
    if image.mode == "P":
        return _decode_palette(image, colours or {})
    if image.mode in ("L", "1", "LA", "PA"):
        pixels = np.asarray(image).astype(np.uint8)
        first = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])
        return _decode_greys(first, colours or {})
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 255:
            raise UnreadableImage(f"has values from {values.min()} to {values.max()}: class ids are 0 to 255")
        return values.astype(np.uint8)
    raise UnreadableImage(f"has values of the kind {image.mode}, which are no class ids: save 8-bit numbers")


def list_colours(content: bytes) -> list[Colour]:
    """Returns the colours in a mask that is painted in colours, in order; none for a mask of numbers."""
    image = _open(content)
    if image.mode not in ("RGB", "RGBA", "RGBX"):
        return []
    pixels = np.asarray(image)[..., :3]
    if (pixels[..., 1:] == pixels[:1, :1, 1:]).all() or (pixels[..., 1:] == pixels[..., :1]).all():
        return []
    return [(code >> 16, code >> 8 & 255, code & 255) for code in np.unique(_pack(pixels)).tolist()]


def list_ids(mask: np.ndarray) -> list[int]:
    """Returns the class ids in a mask, in order."""
    return [int(i) for i in np.flatnonzero(np.bincount(mask.ravel(), minlength=256))]


def read_text(path: Path, setting: str) -> str:
    """Returns the text of a file: UTF-8, or UTF-16 that begins with a byte order mark.

    Raises a UserError, which names the setting of the path, for anything else.
    """
    try:
        return read_text_file(path)
    except FileNotFoundError as error:
        where = "" if path.is_absolute() else f" in {Path.cwd()}, where relative paths begin"
        raise UserError(f"{setting}={path} cannot be read: No such file{where}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{setting}={path} cannot be read: {error}") from error


def read_text_file(path: Path) -> str:
    """Returns the text of a file, as `read_text` does.

    Raises an OSError, or a ValueError for what is no text. Pipes and devices are not opened: they would never
    end.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no file")
    content = path.read_bytes()
    text = content.decode(find_encoding(content))
    if "\0" in text:
        raise ValueError("it is no text in UTF-8. Save it as UTF-8")
    return text


def read_saved_image(path: Path) -> Image.Image:
    """Returns the RGB image in a file of a store or a run folder; raises a DamagedImage for a damaged one."""
    with _saved_file(path) as file:
        return _open(file.read()).convert("RGB")


def read_saved_size(path: Path) -> tuple[int, int]:
    """Returns width and height of an image, as `read_saved_image` reads it, from its first bytes."""
    with _saved_file(path) as file, Image.open(file) as image:
        return image.size


def is_whole_png(path: Path) -> bool:
    """Returns whether a file begins and ends as a PNG does, which takes some 20 microseconds.

    It finds what a crash or a full disk leaves; damage between the ends shows when the image is read.
    """
    try:
        if not path.is_file():  # a pipe would wait for ever
            return False
        with path.open("rb") as file:
            start = file.read(len(PNG_START))
            file.seek(-len(PNG_END), os.SEEK_END)
            return start == PNG_START and file.read() == PNG_END
    except OSError:
        return False


def find_encoding(start: bytes) -> str:
    """Returns the encoding of a text that begins with these bytes, by its byte order mark."""
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def find_file_encoding(path: Path) -> str:
    """Returns the encoding of a text file, by its byte order mark."""
    with path.open("rb") as file:
        return find_encoding(file.read(2))


@contextmanager
def _saved_file(path: Path) -> Iterator[BinaryIO]:
    """Opens an image of a store or a run folder; raises a DamagedImage if this block cannot read it."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise UnreadableImage("cannot be read: there is no such file")
        with path.open("rb") as file:
            yield file
    except (OSError, UnreadableImage) as error:
        reason = "cannot be read: it is no image" if isinstance(error, UnidentifiedImageError) else error
        raise DamagedImage(
            f"the image {path} {reason}. In a store, delete the file: the same command makes it again. In a "
            "run folder, repeat the run",
            path,
        ) from error


def _open(content: bytes) -> Image.Image:
    """Returns the decoded image, turned by its EXIF orientation."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, and about images that are large but allowed
            if content.startswith(b"\x89PNG"):
                Image.open(io.BytesIO(content)).verify()  # decoding does not check the checksums of pixels
            image = Image.open(io.BytesIO(content))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except UnidentifiedImageError as error:  # its message names an object in memory
        raise UnreadableImage("cannot be read: it is damaged, or no image") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise UnreadableImage(f"has more than {limit} million pixels: store a smaller one") from error
    except MemoryError:  # an error of the machine, not of the file
        raise
    except (
        Exception
    ) as error:  # damaged files fail in many ways: OSError, SyntaxError, zlib.error, struct.error
        raise UnreadableImage(f"cannot be read: {error}") from error
    return image


def _scale_integers(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or not MIN_RANGE <= high < 1 << 16:
        raise UnreadableImage(
            f"has whole numbers from {low} to {high}, which fill neither 8 nor 16 bits, so that their "
            "brightness "
            "cannot be known: save it with 8 bits a channel"
        )
    _report_once("Images with 16 bits a channel are read with their upper 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _scale_decimals(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # false for NaN
        raise UnreadableImage(
            f"has decimals from {low:g} to {high:g}; their brightness is known from 0 to 1 alone: save it "
            "with 8 bits a channel"
        )
    _report_once("Images of decimals are read as brightness from 0 to 1")
    return Image.fromarray(np.round(values * 255).astype(np.uint8))


def _decode_colours(pixels: np.ndarray, colours: Mapping[Colour, int]) -> np.ndarray:
    """Returns the class ids of pixels (height, width, 3): the first channel, or the ids of the colours."""
    first = np.ascontiguousarray(pixels[..., 0])
    if not colours:
        return first
    codes = _pack(pixels)
    ids_by_code = {_pack(np.array(colour)).item(): class_id for colour, class_id in colours.items()}
    present = np.unique(codes)
    unknown = [code for code in present.tolist() if code not in ids_by_code]
    others = pixels[..., 1:]
    is_grey = bool((others == first[..., None]).all())
    is_alone = is_grey or bool(
        (others == others[:1, :1]).all()
    )  # the first channel is the only one that varies
    has_known_ids = set(list_ids(first)) <= set(colours.values())
    if unknown and is_alone and has_known_ids:
        return first
    if unknown:
        names = ", ".join(f"#{code:06x}" for code in unknown[:5])
        more = ", ..." if len(unknown) > 5 else ""
        raise UnreadableImage(
            f"has colours that stand for no class, or for several, in the classes file: {names}{more}"
        )
    table = np.array([ids_by_code[code] for code in present.tolist()], np.uint8)
    by_colour = table[np.searchsorted(present, codes)]
    if is_grey and has_known_ids and not np.array_equal(by_colour, first):
        raise UnreadableImage(
            "can be read as class ids and as colours of classes: save class ids with one channel"
        )
    _report_once("Masks are painted in the colours of the classes, and are read by them")
    return by_colour


def _decode_greys(values: np.ndarray, colours: Mapping[Colour, int]) -> np.ndarray:
    """Returns class ids as they are, and otherwise the ids of grey values, as in masks of 0 and 255."""
    present = list_ids(values)
    ids = {value: colours[value, value, value] for value in present if (value, value, value) in colours}
    if set(present) <= set(colours.values()) or len(ids) < len(present):
        return values
    return _replace(values, ids)


def _decode_palette(image: Image.Image, colours: Mapping[Colour, int]) -> np.ndarray:
    """Returns the indices of a palette, or the ids of its colours if the indices are no ids."""
    indices = np.asarray(image)
    present = list_ids(indices)
    flat = image.getpalette("RGB") or []
    palette = {i: (flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]) for i in present if 3 * i + 2 < len(flat)}
    ids = {i: colours[colour] for i, colour in palette.items() if colour in colours}
    if len(ids) < len(present) or list(ids.values()) == present:
        return indices
    if set(present) <= set(colours.values()):
        if len(present) == 1:  # a single colour is ambiguous: black is often both class 0 and unlabelled
            return indices
        raise UnreadableImage(
            f"has the indices {present} in its palette, whose colours are those of the classes "
            f"{list(ids.values())}: save class ids with one channel"
        )
    _report_once("Masks are painted in the colours of the classes, and are read by them")
    return _replace(indices, ids)


def _replace(values: np.ndarray, ids: Mapping[int, int]) -> np.ndarray:
    """Returns the class id of each value."""
    table = np.zeros(256, np.uint8)
    for value, class_id in ids.items():
        table[value] = class_id
    return table[values]


def _pack(colours: np.ndarray) -> np.ndarray:
    """Returns one number for each colour (..., 3)."""
    channels = colours.astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]


@lru_cache
def _report_once(sentence: str) -> None:
    log.info(sentence)
