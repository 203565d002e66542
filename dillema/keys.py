"""Keys of records: hashes of everything that a result depends on, and seeds."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .errors import UserError
from .fields import TRANSIENT, WEIGHTS, marked_fields


def identity(backend: Any) -> Any:
    """Returns what the results of a back-end depend on, as JSON: class, version, fields, content of weights.

    Fields hinted `Transient` are left out. A field hinted `Weights` is replaced by a hash of the file or
    folder that it names; a name that is no path (a hub id) stays as it is. The identity of a back-end inside
    a back-end is computed in the same way. Raises a UserError for an object whose settings cannot be told.
    """
    if isinstance(backend, (list, tuple)):
        return [identity(part) for part in backend]
    if isinstance(backend, Mapping):
        return {str(name): identity(part) for name, part in backend.items()}
    if not dataclasses.is_dataclass(backend) or isinstance(backend, type):
        # the text of an object that tells nothing but where it lies in memory
        if not isinstance(backend, str) and " at 0x" in repr(backend):
            name = f"{type(backend).__module__}.{type(backend).__qualname__}"
            raise UserError(
                f"{name} is no dataclass: its settings cannot be told, and records of it would be those of "
                "another object. Write @dataclass above the class, and its settings as fields"
            )
        return backend
    backend_class = type(backend)
    transient = marked_fields(backend_class, TRANSIENT)
    values = {
        field.name: getattr(backend, field.name)
        for field in dataclasses.fields(backend)
        if field.init and field.name not in transient
    }
    for name in marked_fields(backend_class, WEIGHTS):
        values[name] = weights_content(values[name])
    described = {
        "class": f"{backend_class.__module__}.{backend_class.__qualname__}",
        "version": getattr(backend_class, "version", 1),
    }
    if package_data := getattr(backend_class, "package_data", ()):
        described["package_data"] = weights_content(package_data)
    return described | {name: identity(value) for name, value in values.items()}


def digest(*parts: Any) -> str:
    """Returns a hash of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def seed_for(seed: int, item: str, purpose: str, variant: int = 0) -> int:
    """Returns the seed (31 bits) of one random choice, which depends only on the arguments."""
    return int(digest(seed, item, purpose, variant)[:8], 16) >> 1


def weights_content(setting: Any) -> Any:
    """Returns a hash of the file or folder that a setting names; of each of them where it names several."""
    if isinstance(setting, Mapping):
        return {name: weights_content(member) for name, member in setting.items()}
    if isinstance(setting, (list, tuple)):
        return [weights_content(member) for member in setting]
    if setting is None or not Path(setting).exists():
        return setting
    return _hash_path(Path(setting).resolve())


def _hash_path(path: Path) -> str:
    """Returns a hash of a file, or of all files of a folder with their names."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    hashes = [_hash_file(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return digest([(str(file.relative_to(path)), hashed) for file, hashed in zip(files, hashes, strict=True)])


@cache  # the runs of a sweep share a process, and hashing gigabytes takes seconds
def _hash_file(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
