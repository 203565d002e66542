"""Prepares the overrides of the command line for Hydra."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from .config import conf_dir
from .errors import UserError

REPLACED_MAPPINGS = ("vary", "where", "class_map", "controlnet", "parts")
"""Settings that are mappings. A mapping given replaces that of the option; Hydra would merge the two."""


def prepare(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of the command line in the form that Hydra needs; flags stay as they are.

    A mapping given on the command line replaces that of the option. A setting that does not exist passes
    through: `check` reports it together with all other mistakes. Raises a UserError for an override that
    cannot be read, and for an option that a group does not have.
    """
    prepared: list[str] = []
    custom_options = any(a.startswith(("--config-", "-cd", "-cp", "hydra.searchpath")) for a in arguments)
    for argument in _add_gates_of_run(arguments):
        if argument.startswith("-") or "=" not in argument:
            prepared.append(argument)
            continue
        override = _parse(argument)
        if not custom_options:
            _check_option(override)
        prepared += _prepare_one(argument, override)
    return prepared


def _add_gates_of_run(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of `job=judge` with the gates of the judged run, unless others are given.

    Arguments of other jobs stay as they are, and also those for a folder that is no run: the job reports it.
    """
    values = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    settings = Path(values.get("run", ""), ".hydra", "hydra.yaml")
    if values.get("job") != "judge" or "validity" in values or not settings.is_file():
        return list(arguments)
    choice = OmegaConf.select(OmegaConf.load(settings), "hydra.runtime.choices.validity")
    if choice is None:  # Hydra notes no choice for the list of the default configuration
        choice = OmegaConf.select(OmegaConf.load(settings.with_name("config.yaml")), "validity") or {}
    names = choice.strip("[]") if isinstance(choice, str) else ",".join(map(str, choice))
    return [*arguments, f"validity=[{names or 'none'}]"]


def typed_overrides(overrides: Sequence[str]) -> list[str]:
    """Returns overrides as a user types them; Hydra gets a longer form (see `dillema.overrides`)."""
    names = [override.partition("=")[0] for override in overrides]
    return [
        override.removeprefix("++")
        for index, override in enumerate(overrides)
        # a mapping that replaces another one is preceded by null
        if not (override.endswith("=null") and names[index] in names[index + 1 :])
    ]


def _prepare_one(argument: str, override: Override) -> list[str]:
    key = override.key_or_group
    if override.type is not OverrideType.CHANGE or key.startswith("hydra") or _group_folder(key).is_dir():
        return [argument]
    name = key.rpartition(".")[2]
    if name in REPLACED_MAPPINGS and not override.is_sweep_override() and isinstance(override.value(), dict):
        return [f"++{key}=null", f"++{argument}"]
    return [f"++{argument}"]


def _parse(argument: str) -> Override:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        key, _, value = argument.partition("=")
        if '"' in value or "'" in value:
            raise UserError(f"{argument!r} cannot be read: {str(error).splitlines()[0]}") from error
        raise UserError(
            f"{argument!r} cannot be read: a value with '=', brackets, commas or spaces needs quotes "
            f"of its own, inside those of the shell: '{key}=\"{value}\"'"
        ) from error


def _check_option(override: Override) -> None:
    """Raises a UserError for an option that a group does not have; the message suggests a similar one."""
    group = override.key_or_group
    folder = _group_folder(group)
    if override.is_sweep_override() or override.is_delete() or not folder.is_dir():
        return
    options = sorted(path.stem for path in folder.glob("*.yaml"))
    value = override.value()
    for option in value if isinstance(value, list) else [value]:
        if isinstance(option, str) and option not in options and not (folder / f"{option}.yaml").exists():
            near = difflib.get_close_matches(option, options, n=1)
            hint = f"did you mean {group}={near[0]}? " if near else ""
            raise UserError(
                f"{group}={option}: there is no such option; {hint}The options are {', '.join(options)}"
            )


def _group_folder(key: str) -> Path:
    """Returns the folder of the options of a group, whether it exists or not."""
    return conf_dir() / key.partition("@")[0].lstrip("+~")
