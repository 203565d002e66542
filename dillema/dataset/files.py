"""Files of a folder or of a zip archive: listed, read and named alike."""

import hashlib
import os
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

from ..errors import ItemError, UserError

IMAGES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
MAX_ID_BYTES = 120
"""File names end at 255 bytes, and those that begin with an id go on after it."""

# files of systems, and the thumbnails and bins of network storage
_HIDDEN = re.compile(
    r"(^|/)(\.|(__MACOSX|@eaDir|@__thumb|@Recycle|#recycle|\$RECYCLE\.BIN|lost\+found)(/|$))"
)

Read = Callable[[], bytes]


def list_files(source: Path) -> list[str]:
    """Returns the files at any depth of a folder or of a zip archive: relative paths with '/', sorted.

    Hidden files, thumbnails of network storage and what is no file (a pipe) are left out; a folder that links
    to one that it lies in is not entered again.
    """
    names = _walk(str(source), "", ()) if source.is_dir() else iter(_members(str(source), os.getpid()))
    return sorted(name for name in names if not name.endswith("/") and not _HIDDEN.search(name))


def list_folders(source: Path) -> list[str]:
    """Returns the folders directly in a folder or a zip archive, empty ones too, without hidden ones."""
    if source.is_dir():
        names = {entry.name for entry in os.scandir(source) if entry.is_dir()}
    else:
        names = {name.partition("/")[0] for name in _members(str(source), os.getpid()) if "/" in name}
    return sorted(name for name in names if not _HIDDEN.search(f"{name}/"))


def read_later(source: Path, name: str) -> Read:
    """Returns the function that reads one of the files of `list_files`; it can be sent to another process."""
    return partial(_read, source, name)


def report_missing(message: str) -> Read:
    """Returns a function that raises an ItemError instead of reading a file that should be there."""
    return partial(_fail, message)


def make_ids(names: Sequence[str]) -> list[str]:
    """Returns an id for each relative path: '_' for '/', without extension.

    It has a hash at its end where it would not be a safe, unique and short file name otherwise.
    """
    plain = [normalise(name.rpartition(".")[0] or name).replace("/", "_") for name in names]
    safe = [re.sub(r"[^\w-]|^-", "_", name) for name in plain]
    count = Counter(safe)
    return [
        clean
        if clean == given and count[clean] == 1 and len(clean.encode()) <= MAX_ID_BYTES
        else f"{_cut(clean)}-{_hash(name)}"
        for name, given, clean in zip(names, plain, safe, strict=True)
    ]


def normalise(name: str) -> str:
    """Returns a name with composed characters (NFC): systems write the same name in two ways."""
    return unicodedata.normalize("NFC", name)


def make_printable(name: str) -> str:
    """Returns a file name that can be written anywhere: a sign stands for what is not UTF-8 in it."""
    return normalise(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def _walk(folder: str, path: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yields the paths of the files below a folder; `above` identifies the folders that it lies in."""
    status = Path(folder).stat()
    folder_key = (status.st_dev, status.st_ino)
    if folder_key in above:
        return
    for entry in os.scandir(folder):
        name = f"{path}{entry.name}"
        if entry.is_dir():
            if not _HIDDEN.search(f"{name}/"):
                yield from _walk(entry.path, f"{name}/", (*above, folder_key))
        elif entry.is_file() or (
            entry.is_symlink() and not Path(entry.path).exists()
        ):  # a broken link fails by itself
            yield name


@lru_cache(maxsize=8)
def _open(path: str, process: int) -> zipfile.ZipFile:
    """Returns an archive opened by this process: forks that share a file handle disturb each other."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is damaged ({error}): download it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


@lru_cache(maxsize=8)
def _members(path: str, process: int) -> dict[str, str]:
    """Returns the names in an archive by their paths; archives of Windows have backslashes."""
    names = _open(path, process).namelist()
    return {name.replace("\\", "/").removeprefix("./").lstrip("/"): name for name in names}


def _read(source: Path, name: str) -> bytes:
    if source.is_file():
        path, process = str(source), os.getpid()
        return _open(path, process).read(_members(path, process)[name])
    return (source / name).read_bytes()


def _fail(message: str) -> bytes:
    raise ItemError(message)


def _cut(name: str) -> str:
    """Returns the beginning of a name that leaves room for a hash."""
    return name.encode()[: MAX_ID_BYTES - 9].decode(errors="ignore")


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
