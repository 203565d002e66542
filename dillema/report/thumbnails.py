"""Small copies of a run's images. They stay in its folder and serve a page that is written again."""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from ..decoding import read_saved_image
from ..files import list_files

FOLDER = "report"
SIZE = (320, 320)  # at most
PART = 16  # pictures that a thread takes at a time
PARTS = 16  # that are read before the room that is left is counted
EMBEDDED_BYTES = 6_000_000  # of small images in the page: it still fits into a mail


def shrink(image: Image.Image) -> bytes:
    """Returns the file of a small copy of an image."""
    copy = image.convert("RGB")
    copy.thumbnail(SIZE)
    file = io.BytesIO()
    copy.save(file, "JPEG", quality=85)  # a tenth of the time that WebP takes, for half as much again
    return file.getvalue()


def shrink_file(path: Path) -> bytes:
    """Returns the file of a small copy of the image in a file."""
    return shrink(read_saved_image(path))


def embed(content: bytes) -> str:
    """Returns an address that holds an image."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()


def read_small_copy(folder: Path, name: str, source: Path) -> bytes:
    """Returns the file of the small copy of an image, which is made when it does not exist."""
    path = folder / FOLDER / name
    try:
        return path.read_bytes()
    except FileNotFoundError:
        content = shrink_file(source)
        _write(path, content)
        return content


def place_pictures(folder: Path, pictures: Mapping[str, Path | bytes]) -> dict[str, str]:
    """Returns the addresses of pictures for the page, by their names, which are paths in report/.

    The first ones are part of the page as long as there is room, the others lie in report/.

    Args:
        folder: The run folder.
        pictures: The image that a picture is a small copy of, or the content of its file.
    """

    def read(part: Sequence[tuple[str, Path | bytes]]) -> list[bytes]:
        return [
            content if isinstance(content, bytes) else read_small_copy(folder, name, content)
            for name, content in part
        ]

    there = list_files(folder / FOLDER)

    def is_missing(name: str, content: Path | bytes) -> bool:
        if isinstance(content, Path) or name not in there:
            return name not in there
        return os.stat(f"{folder}/{FOLDER}/{name}").st_size != len(content)  # noqa: PTH116  # a path is slow

    def place(part: Sequence[tuple[str, Path | bytes]]) -> None:
        for name, content in part:
            if is_missing(name, content):
                file = content if isinstance(content, bytes) else shrink_file(content)
                _write(folder / FOLDER / name, file)

    addresses = {name: quote(f"{FOLDER}/{name}") for name in pictures}
    items, room = list(pictures.items()), EMBEDDED_BYTES
    parts = [items[start : start + PART] for start in range(0, len(items), PART)]
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(parts), PARTS):
            chunk = parts[start : start + PARTS]
            if room < 0:
                list(pool.map(place, chunk))
                continue
            contents = chain.from_iterable(pool.map(read, chunk))
            for picture, content in zip(chain.from_iterable(chunk), contents, strict=True):
                room -= len(content)
                if room >= 0:
                    addresses[picture[0]] = embed(content)
                elif isinstance(picture[1], bytes):  # the others lie there since they were read
                    place([picture])
    return addresses


def _write(path: Path, content: bytes) -> None:
    """Writes a file under another name first: the old one may be that of another run folder, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
