"""Lists, reads and names the files of a folder or of a zip archive in the same way."""

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
"""File names have at most 255 bytes, and those that begin with an id are longer than it."""
MAX_MEMBER_BYTES = 256 << 20
"""A file in an archive that unpacks to more is no image, and fills the memory."""

# files of operating systems, and thumbnails and recycle bins of network storage
_HIDDEN = re.compile(
    r"(^|/)(\.|(__MACOSX|@eaDir|@__thumb|@Recycle|#recycle|\$RECYCLE\.BIN|lost\+found)(/|$))"
)

Read = Callable[[], bytes]


def list_files(source: Path) -> list[str]:
    """Returns the files at any depth of a folder or of a zip archive: relative paths with '/', sorted.

    Hidden files, thumbnails of network storage and special files (pipes) are left out. Links to a parent
    folder are not followed.
    """
    names = _walk(str(source), "", ()) if source.is_dir() else iter(_members(str(source), os.getpid()))
    return sorted(name for name in names if not name.endswith("/") and not _HIDDEN.search(name))


def list_folders(source: Path) -> list[str]:
    """Returns the folders directly in a folder or a zip archive, also empty ones, without hidden ones."""
    if source.is_dir():
        names = {entry.name for entry in os.scandir(source) if _is_folder(entry)}
    else:
        names = {name.partition("/")[0] for name in _members(str(source), os.getpid()) if "/" in name}
    return sorted(name for name in names if not _HIDDEN.search(f"{name}/"))


def read_later(source: Path, name: str) -> Read:
    """Returns a function that reads one of the files of `list_files`; the function can be pickled."""
    return partial(_read, source, name)


def report_missing(message: str) -> Read:
    """Returns a function that raises an ItemError instead of reading a file that should be there."""
    return partial(_fail, message)


def make_ids(names: Sequence[str]) -> list[str]:
    """Returns an id for each relative path: '_' for '/', without extension.

    A hash is added if the id would otherwise not be a safe, unique and short file name.
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
    """Returns a name with composed characters (NFC), because systems encode names differently."""
    return unicodedata.normalize("NFC", name)


def make_printable(name: str) -> str:
    """Returns a file name for messages: a replacement character stands for invalid UTF-8."""
    return normalise(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def _walk(folder: str, path: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yields the paths of the files below a folder; `above` identifies its parent folders."""
    status = Path(folder).stat()
    folder_key = (status.st_dev, status.st_ino)
    if folder_key in above:
        return
    for entry in os.scandir(folder):
        name = f"{path}{entry.name}"
        if _is_folder(entry):
            if not _HIDDEN.search(f"{name}/"):
                yield from _walk(entry.path, f"{name}/", (*above, folder_key))
        elif (entry.is_symlink() and not Path(entry.path).exists()) or entry.is_file():
            yield name  # reading a broken link gives its own error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


@lru_cache(maxsize=8)
def _open(path: str, process: int) -> zipfile.ZipFile:
    """Returns an archive opened by this process, because forked processes must not share a file handle."""
    if not Path(path).is_file():  # a pipe would wait for ever
        raise UserError(f"{path} is no file")
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is damaged ({error}): download it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


@lru_cache(maxsize=8)
def _members(path: str, process: int) -> dict[str, str]:
    """Returns the names in an archive by path; archives of Windows have backslashes."""
    names = _open(path, process).namelist()
    return {name.replace("\\", "/").removeprefix("./").lstrip("/"): name for name in names}


def _read(source: Path, name: str) -> bytes:
    if source.is_file():
        path, process = str(source), os.getpid()
        archive, member = _open(path, process), _members(path, process)[name]
        if archive.getinfo(member).file_size > MAX_MEMBER_BYTES:
            raise ItemError(f"{name} in {path} has more than {MAX_MEMBER_BYTES >> 20} MB: unpack the archive")
        return archive.read(member)
    return (source / name).read_bytes()


def _fail(message: str) -> bytes:
    raise ItemError(message)


def _cut(name: str) -> str:
    """Returns a name, cut so that a hash can be added."""
    return name.encode()[: MAX_ID_BYTES - 9].decode(errors="ignore")


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
