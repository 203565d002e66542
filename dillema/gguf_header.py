"""Reads the first entries of a GGUF file, from which the memory of a language model follows."""

import struct
from typing import Any, BinaryIO

# struct codes of the types of values, by GGUF's numbers (8 is a string, 9 an array)
CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
BYTES_PER_VALUE = 2  # of llama.cpp's cache, which is in float16


def read_numbers(file: BinaryIO) -> dict[str, Any]:
    """Returns the values of a header that are no arrays, up to the first one that the file cuts short.

    The numbers of an architecture come before its vocabulary, so the first kilobytes have them. Raises a
    ValueError for a file of another format.
    """
    if file.read(4) != b"GGUF":
        raise ValueError("this is no GGUF file")
    values: dict[str, Any] = {}
    try:
        _, _, count = _unpack(file, "IQQ")
        for _ in range(count):
            name = _read_string(file)
            value = _read_value(file, *_unpack(file, "I"))
            if not isinstance(value, list):
                values[name] = value
    except struct.error:  # the end of what was read
        pass
    return values


def cache_bytes(values: dict[str, Any], context: int) -> int | None:
    """Returns the size of the keys and values of all tokens of a context; None if a number is missing."""
    kind = values.get("general.architecture")
    layers, width = values.get(f"{kind}.block_count"), values.get(f"{kind}.embedding_length")
    heads = values.get(f"{kind}.attention.head_count")
    if not (layers and width and heads):
        return None
    pairs = values.get(f"{kind}.attention.head_count_kv", heads)
    key = values.get(f"{kind}.attention.key_length", width // heads)
    value = values.get(f"{kind}.attention.value_length", width // heads)
    return int(layers * context * pairs * (key + value) * BYTES_PER_VALUE)


def _read_value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _read_string(file)
    if kind == ARRAY:
        member, count = _unpack(file, "IQ")
        return [_read_value(file, member) for _ in range(count)]
    (value,) = _unpack(file, CODES[kind])
    return value


def _read_string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    content = file.read(length)
    if len(content) < length:
        raise struct.error("the file ends")
    return content.decode(errors="replace")


def _unpack(file: BinaryIO, codes: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{codes}", file.read(struct.calcsize(f"<{codes}")))
