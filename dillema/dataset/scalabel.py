"""Annotations in Scalabel's format, read frame by frame."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..decoding import find_file_encoding
from ..errors import UserError

CHUNK_SIZE = 1 << 18
_FRAMES = re.compile(r'\A\s*\[|"frames"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")


def read_frames(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the frames of a Scalabel file one at a time, because real files have hundreds of megabytes.

    Each has the texts `name` and `videoName`, and a mapping `attributes`. Raises a UserError that names the
    wrong frame.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing, and dataset.where needs what it holds: download it, or set the filter to "
            "null"
        )
    for number, frame in enumerate(_decode_list(path)):
        attributes = frame.get("attributes") or {} if isinstance(frame, dict) else None
        if not isinstance(attributes, dict):
            raise UserError(f"{path}, frame {number}: {_shorten(frame)} should be a mapping with attributes")
        for key in ("name", "videoName"):
            if not isinstance(frame.get(key), str):
                raise UserError(
                    f"{path}, frame {number}: {key} should be a text, not {_shorten(frame.get(key))}"
                )
        yield {**frame, "attributes": attributes}


def _decode_list(path: Path) -> Iterator[Any]:
    """Yields the items of the list of frames."""
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding=find_file_encoding(path)) as file:
            text = file.read(CHUNK_SIZE)
            if not (start := _FRAMES.search(text)):
                raise UserError(f"{path} is not a Scalabel file: it should begin with a list of frames")
            position = start.end()
            while True:
                position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]  # matches "" too
                if text.startswith("]", position):
                    return
                try:
                    item, position = decoder.raw_decode(text, position)
                except json.JSONDecodeError:
                    more = file.read(CHUNK_SIZE)
                    if not more or len(text) - position > 16 * CHUNK_SIZE:  # no frame is that long
                        raise
                    text, position = text[position:] + more, 0
                else:
                    yield item
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}. Download it again") from error


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
