"""How a run was made: from what Hydra leaves in its folder."""

import platform
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from ..config import build
from ..store import identity

HASH = re.compile(r"[0-9a-f]{64}")


def of(folder: Path) -> dict[str, Any]:
    """Returns the versions, and where the folder holds a configuration that one, its weights and the command that repeats the run."""
    found: dict[str, Any] = {"versions": dict(_versions()), "command": "", "config": "", "weights": []}
    if not (folder / ".hydra").is_dir():
        return found
    config = folder / ".hydra" / "config.yaml"
    overrides: Any = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "overrides.yaml"))  # as given: what they refer to is not beside them
    return found | {
        "command": shlex.join(["python", "-m", "dillema", *overrides]),
        "config": config.read_text(encoding="utf-8"),  # as written: what it takes from the environment is not in it
        "weights": list(_weights(OmegaConf.load(config), "")),
    }


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    yield "platform", platform.platform()
    yield "dillema", version("dillema")
    for requirement in requires("dillema") or ():
        name = re.match(r"[\w.-]+", requirement)[0]  # type: ignore[index]  # every requirement begins with a name
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue  # of an extra


def _weights(node: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Yields the option, the file, folder or hub id, and the hash of its content where it is here, of all weights of a configuration."""
    if isinstance(node, ListConfig):
        for i, part in enumerate(node):
            yield from _weights(part, f"{path}.{i}")
    elif isinstance(node, DictConfig) and "_target_" not in node:
        for key in node:
            yield from _weights(node[key], f"{path}.{key!s}")
    elif isinstance(node, DictConfig) and (names := getattr(get_object(node["_target_"]), "weights", ())):
        backend = build(node)
        known = identity(backend)
        for name in names:
            if value := getattr(backend, name):
                yield f"{path}.{name}".lstrip("."), str(value), known[name][:12] if HASH.fullmatch(str(known[name])) else ""
