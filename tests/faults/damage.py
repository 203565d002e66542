"""Damages files: their bytes, their text, the values of their JSON, and what lies at their path.

A damage is a function of a path and a random source. The same seed gives the same damage.
"""

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path, random.Random], None]

HTML = b"<!DOCTYPE html><html><head><title>404</title></head><body><script>alert(1)</script></body></html>"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
DEPTH = 20_000
SURROGATE = "\ud800"


def _of_bytes(change: Callable[[bytearray, random.Random], Any]) -> Damage:
    def apply(path: Path, rng: random.Random) -> None:
        content = bytearray(path.read_bytes())
        replaced = change(content, rng)
        path.write_bytes(bytes(content) if replaced is None else replaced)

    return apply


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def _flip(count: int) -> Callable[[bytearray, random.Random], None]:
    def change(content: bytearray, rng: random.Random) -> None:
        for _ in range(count):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)

    return change


def _flip_at_start(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(min(64, len(content)))] ^= 1 << rng.randrange(8)


def _block(content: bytearray, rng: random.Random) -> slice:
    start = rng.randrange(len(content))
    return slice(start, start + rng.randint(1, max(2, len(content) // 8)))


def _zero(content: bytearray, rng: random.Random) -> None:
    block = _block(content, rng)
    content[block] = bytes(len(content[block]))


def _noise(content: bytearray, rng: random.Random) -> None:
    block = _block(content, rng)
    content[block] = rng.randbytes(len(content[block]))


def _remove(content: bytearray, rng: random.Random) -> None:
    del content[_block(content, rng)]


def _repeat(content: bytearray, rng: random.Random) -> None:
    block = _block(content, rng)
    content[block.start : block.start] = content[block]


def _insert(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    content[start:start] = rng.randbytes(rng.randint(1, 64))


BYTES: dict[str, Damage] = {
    "cut": _of_bytes(_cut),
    "cut the last byte": _of_bytes(lambda content, rng: bytes(content[:-1])),
    "empty": _of_bytes(lambda content, rng: b""),
    "a bit": _of_bytes(_flip(1)),
    "a bit at the start": _of_bytes(_flip_at_start),
    "eight bits": _of_bytes(_flip(8)),
    "a block of zeros": _of_bytes(_zero),
    "a block of noise": _of_bytes(_noise),
    "a block removed": _of_bytes(_remove),
    "a block repeated": _of_bytes(_repeat),
    "bytes inserted": _of_bytes(_insert),
    "bytes appended": _of_bytes(lambda content, rng: bytes(content) + rng.randbytes(200)),
    "all zeros": _of_bytes(lambda content, rng: bytes(len(content))),
    "all noise": _of_bytes(lambda content, rng: rng.randbytes(len(content))),
    "a page of HTML": _of_bytes(lambda content, rng: HTML),
    "a pointer of Git LFS": _of_bytes(lambda content, rng: LFS_POINTER),
    "gzip": _of_bytes(lambda content, rng: gzip.compress(bytes(content))),
}


def _replace_path(make: Callable[[Path], Any]) -> Damage:
    def apply(path: Path, rng: random.Random) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        make(path)

    return apply


PATHS: dict[str, Damage] = {
    "a link to itself": _replace_path(lambda path: path.symlink_to(path.name)),
    "a link to nothing": _replace_path(lambda path: path.symlink_to("nothing")),
    "a link to its folder": _replace_path(lambda path: path.symlink_to(".")),
    "a pipe": _replace_path(lambda path: os.mkfifo(path)),
    "a folder": _replace_path(lambda path: path.mkdir()),
    "a device without end": _replace_path(lambda path: path.symlink_to("/dev/zero")),
    "missing": _replace_path(lambda path: None),
}


def _of_text(change: Callable[[str, random.Random], bytes]) -> Damage:
    return _of_bytes(lambda content, rng: change(content.decode(), rng))


def _somewhere(text: str, rng: random.Random, inserted: str) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + inserted + text[place:]


def _lines(change: Callable[[list[str], random.Random], None]) -> Damage:
    def apply(text: str, rng: random.Random) -> bytes:
        lines = text.splitlines()
        change(lines, rng)
        return ("\n".join(lines) + "\n").encode()

    return _of_text(apply)


TEXT: dict[str, Damage] = {
    "a byte order mark": _of_text(lambda text, rng: text.encode("utf-8-sig")),
    "UTF-16": _of_text(lambda text, rng: text.encode("utf-16")),
    "UTF-16, the other end first": _of_text(lambda text, rng: b"\xfe\xff" + text.encode("utf-16-be")),
    "UTF-16 without a mark": _of_text(lambda text, rng: text.encode("utf-16-le")),
    "UTF-32": _of_text(lambda text, rng: text.encode("utf-32")),
    "Latin 1": _of_text(lambda text, rng: _somewhere(text, rng, "ü").encode("latin-1", "replace")),
    "a lone surrogate": _of_text(
        lambda text, rng: _somewhere(text, rng, SURROGATE).encode(errors="surrogatepass")
    ),
    "a zero byte": _of_text(lambda text, rng: _somewhere(text, rng, "\0").encode()),
    "control characters": _of_text(lambda text, rng: _somewhere(text, rng, "\x1b[2J\x07\x7f\u202e").encode()),
    "ends of lines of Windows": _of_text(lambda text, rng: text.replace("\n", "\r\n").encode()),
    "ends of lines of old Macs": _of_text(lambda text, rng: text.replace("\n", "\r").encode()),
    "a long line": _of_text(lambda text, rng: _somewhere(text, rng, "x" * 100_000).encode()),
    "many quotes": _of_text(lambda text, rng: _somewhere(text, rng, '"' * 100_001).encode()),
    "nested without end": _of_text(lambda text, rng: _somewhere(text, rng, "[" * DEPTH).encode()),
    "nested mappings": _of_text(lambda text, rng: _somewhere(text, rng, '{"a":' * DEPTH).encode()),
    "a line twice": _lines(lambda lines, rng: lines.insert(0, rng.choice(lines))),
    "a line less": _lines(lambda lines, rng: lines.pop(rng.randrange(len(lines)))),
    "lines shuffled": _lines(lambda lines, rng: rng.shuffle(lines)),
    "commas as semicolons": _of_text(lambda text, rng: text.replace(",", ";").encode()),
    "tabs": _of_text(lambda text, rng: text.replace(" ", "\t").encode()),
}

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "a decimal": 0.5,
    "not a number": float("nan"),
    "infinity": float("inf"),
    "a huge number": 10**4000,
    "a number of 64 bits": 2**63,
    "no text": "",
    "a text": "other",
    "a long text": "x" * 1_000_000,
    "a surrogate": SURROGATE,
    "markup": "</pre><script>alert(1)</script>",
    "a path to above": "../../outside.png",
    "an absolute path": "/outside/outside.png",
    "an empty list": [],
    "a list": [1, "a", None],
    "a deep list": "DEEP",
    "an empty mapping": {},
    "a mapping": {"a": {"b": []}},
}


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    found = [path] if path else []
    for key, part in entries:
        found += _places(part, (*path, key))
    return found


def _of_json(change: Callable[[Any, Any, random.Random], None]) -> Damage:
    """`change` gets the parent of a random value, its key there, and the random source."""

    def apply(path: Path, rng: random.Random) -> None:
        is_lines = path.suffix == ".jsonl"
        text = path.read_text()
        documents = [json.loads(line) for line in text.splitlines()] if is_lines else [json.loads(text)]
        index = rng.randrange(len(documents))
        *parents, key = rng.choice(_places(documents[index]))
        node = documents[index]
        for part in parents:
            node = node[part]
        change(node, key, rng)
        written = [
            json.dumps(document).replace('"DEEP"', "[" * DEPTH + "]" * DEPTH) for document in documents
        ]
        path.write_text("\n".join(written) + ("\n" if is_lines else ""))

    return apply


def _replace_value(value: Any) -> Damage:
    return _of_json(lambda node, key, rng: node.__setitem__(key, value))


def _remove_value(node: Any, key: Any, rng: random.Random) -> None:
    del node[key]


def _swap_values(node: Any, key: Any, rng: random.Random) -> None:
    other = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    node[key], node[other] = node[other], node[key]


def _wrap_value(node: Any, key: Any, rng: random.Random) -> None:
    node[key] = [node[key]]


JSON: dict[str, Damage] = {
    **{f"a value is {name}": _replace_value(value) for name, value in VALUES.items()},
    "a value less": _of_json(_remove_value),
    "two values swapped": _of_json(_swap_values),
    "a value in a list": _of_json(_wrap_value),
}
