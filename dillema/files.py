"""Writes files whole, and links them."""

import os
import secrets
import shutil
from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Makes a hard link to a file, or a copy of it on another disk; replaces the target if it exists.

    The source may be at a remote address.
    """
    temporary = temporary_path(target)
    temporary.unlink(missing_ok=True)
    try:
        if isinstance(source, Path):
            os.link(source, temporary)
        else:
            temporary.write_bytes(source.read_bytes())
    except OSError:
        shutil.copy(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # `replace` does nothing if both are the same file


def temporary_path(path: Path) -> Path:
    """Returns a name beside a file that no other process uses; containers may share a process id."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file completely or not at all, even if the power fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def list_files(folder: Path) -> set[str]:
    """Returns the paths of all files below a folder: asking for thousands one by one takes seconds."""
    found: set[str] = set()
    for path, _, names in os.walk(folder, followlinks=True):
        below = Path(path).relative_to(folder).as_posix()
        found.update(names if below == "." else (f"{below}/{name}" for name in names))
    return found
