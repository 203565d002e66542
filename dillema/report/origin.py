"""How a run was made: its command, its configuration, its weights, and the versions of what it ran on."""

import json
import platform
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..config_check import fits
from ..decoding import read_text, read_text_file
from ..errors import UserError
from ..fields import WEIGHTS, marked_fields
from ..files import write_atomically
from ..keys import weights_content
from ..overrides import typed_overrides
from ..passwords import hide_passwords
from ..run_folder import RunFolder
from .thumbnails import FOLDER

FILE = "origin.json"
"""In report/: versions and hashes of weights are those of the time when the page was first written."""

VALUES = {"versions": dict[str, str], "weights": list[tuple[str, str, str]]}
"""Of FILE, with their types."""

SHA256 = re.compile(r"[0-9a-f]{64}")
SHOWN_DIGITS = 12


def read_origin(folder: RunFolder) -> dict[str, Any]:
    """Returns the versions, the configuration, the weights and the command that repeats the run."""
    file = folder.path / FOLDER / FILE
    machine: dict[str, Any]
    if file.exists():
        try:
            machine = json.loads(read_text_file(file))
            if not fits(machine, dict[str, Any]) or not all(
                fits(machine.get(k), v) for k, v in VALUES.items()
            ):
                raise ValueError("it has other values")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{file} is damaged: {error}. Delete it to have it written again") from error
    else:
        machine = {"versions": dict(_versions()), "weights": list(_list_weights(folder))}
        write_atomically(file, json.dumps(machine, indent=2))
    config = folder.path / ".hydra" / "config.yaml"
    if not config.exists():
        return machine | {"command": "", "config": ""}
    command = shlex.join(["python", "-m", "dillema", *typed_overrides(folder.settings.overrides)])
    # both as they were given: values from the environment are not in them
    return machine | {
        "command": hide_passwords(command),
        "config": hide_passwords(read_text(config, "run")),
    }


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    yield "platform", platform.platform()
    yield "dillema", version("dillema")
    for requirement in requires("dillema") or ():
        match = re.match(r"[\w.-]+", requirement)
        name = match[0] if match else requirement
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue  # of an extra


def _list_weights(folder: RunFolder) -> Iterator[tuple[str, str, str]]:
    config = folder.path / ".hydra" / "config.yaml"
    if config.exists():
        yield from _weights_in(OmegaConf.create(dict(folder.settings.config)), "")


def _weights_in(node: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Yields of all weights the option, the file, folder or hub id, and a hash if it is here."""
    if isinstance(node, ListConfig):
        for i, part in enumerate(node):
            yield from _weights_in(part, f"{path}.{i}")
    if not isinstance(node, DictConfig):
        return
    names = _weights_fields(node)
    for key in node:
        option = f"{path}.{key!s}".lstrip(".")
        try:
            value = node[key]
        except OmegaConfBaseException:
            continue  # refers to what is not here
        if str(key) in names:
            yield from _describe_weights(
                option, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            )
        else:
            yield from _weights_in(value, option)


def _weights_fields(node: DictConfig) -> frozenset[str]:
    """Returns the names of the settings that name weights."""
    target = node.get("_target_")
    if not isinstance(target, str):
        return frozenset()
    try:
        return frozenset(marked_fields(get_object(target), WEIGHTS))
    except Exception:  # a class that is not on this machine
        return frozenset()


def _describe_weights(option: str, value: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _describe_weights(f"{option}.{name}", part)
    elif isinstance(value, list):
        for part in value:
            yield from _describe_weights(option, part)
    elif value:
        content = str(weights_content(value))
        yield option, str(value), content[:SHOWN_DIGITS] if SHA256.fullmatch(content) else ""


def licence_rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns of each licence its setting, the name of the data set or model, and what the licence says."""
    use = {True: "commercial use allowed", False: "no commercial use", None: "commercial use not stated"}
    return [
        (row["setting"], row["name"], f"{row['licence']} ({use[row['commercial']]})")
        for row in results["licences"]
    ]
