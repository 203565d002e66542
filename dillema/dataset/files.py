"""Files of a folder or of a zip archive: listed, read and named alike."""

import hashlib
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from ..errors import ItemError, UserError

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/)")

Read = Callable[[], bytes]


def listed(source: Path) -> list[str]:
    """Returns the files at any depth of a folder or of a zip archive: relative paths with '/', sorted, hidden ones left out."""
    if source.is_dir():
        root = str(source)
        names = [f"{folder}/{name}"[len(root) + 1 :] for folder, _, files in os.walk(root, followlinks=True) for name in files]
    else:
        names = _open(str(source), os.getpid()).namelist()
    return sorted(name for name in names if not name.endswith("/") and not _HIDDEN.search(name))


def reader(source: Path, name: str) -> Read:
    """Returns the function that reads one of the `listed` files; it can be sent to another process."""
    return partial(_read, source, name)


def missing(message: str) -> Read:
    """Returns a function that reads nothing and raises an ItemError: what stands for a file that should be there."""
    return partial(_fail, message)


def ids(names: Sequence[str]) -> list[str]:
    """Returns an id for each relative path: '_' for '/', no extension, and a hash where that would not be a safe and unique file name."""
    plain = [(name.rpartition(".")[0] or name).replace("/", "_") for name in names]
    safe = [re.sub(r"[^\w-]|^-", "_", name) for name in plain]
    count = Counter(safe)
    return [
        clean if clean == given and count[clean] == 1 else f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for name, given, clean in zip(names, plain, safe, strict=True)
    ]


@lru_cache(maxsize=8)
def _open(path: str, process: int) -> zipfile.ZipFile:
    """Returns an archive opened by this process: forks that share a file handle disturb each other."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is damaged ({error}): download it again") from error


def _read(source: Path, name: str) -> bytes:
    return _open(str(source), os.getpid()).read(name) if source.is_file() else (source / name).read_bytes()


def _fail(message: str) -> bytes:
    raise ItemError(message)
