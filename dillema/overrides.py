"""Prepares the overrides of the command line for Hydra."""

import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from .config import conf_dir, read_yaml
from .errors import UserError, shorten
from .needs import GROUPS_OF_SEVERAL

OWN_OPTIONS = "conf"
"""The folder of the user's own options in the working folder, such as conf/experiment/mine.yaml."""


def prepare(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of the command line in the form that Hydra needs; flags stay as they are.

    A setting that does not exist passes through: `check` reports it together with all other mistakes. Raises
    a UserError for an override that cannot be read, and for an option that a group does not have.
    """
    prepared: list[str] = []
    custom_options = any(a.startswith(("--config-", "-cd", "-cp", "hydra.searchpath")) for a in arguments)
    is_sweep = any(a.startswith(("-m", "--multi", "hydra.mode=")) for a in arguments)
    for argument in _add_gates_of_run(arguments):
        if argument.startswith(("-", "~")) or "=" not in argument:
            _refuse_bare_word(argument, prepared)
            if argument.startswith("~") and not (prepared and prepared[-1].startswith("-")):
                _parse(argument)
            prepared.append(argument)
            continue
        argument = _expand_home(argument)
        override = _parse(argument)
        if not custom_options:
            _check_option(override)
        if not is_sweep:
            _refuse_commas(argument, override)
        prepared.append(_prepare_one(argument, override))
    return prepared if custom_options else _insert(prepared, _search_own_options())


def _insert(arguments: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Returns the arguments with further settings before the first; argparse takes none from behind flags."""
    places = [
        place
        for place, argument in enumerate(arguments)
        if argument.startswith("~") or ("=" in argument and not argument.startswith("-"))
    ]
    first = places[0] if places else 0
    return [*arguments[:first], *settings, *arguments[first:]]


def _refuse_bare_word(argument: str, earlier: Sequence[str]) -> None:
    """Raises a UserError for a word that is no setting, no flag and no value of a flag."""
    if argument.startswith(("-", "~")) or (earlier and earlier[-1].startswith("-")):
        return
    raise UserError(
        f"{argument!r} is no setting: settings are written name=value, as in dataset.limit=24. "
        "python -m dillema --help lists the options; python -m dillema init FOLDER looks at a folder of data"
    )


def describe_options() -> str:
    """Returns the text of --help, with one's own options; Hydra takes a second to list them all."""
    groups: dict[str, set[str]] = {}
    for folder in (conf_dir(), Path(OWN_OPTIONS)):
        for file in folder.glob("*/**/*.yaml"):
            groups.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    lines = [f"{group}: {', '.join(sorted(options))}\n" for group, options in sorted(groups.items())]
    template = read_yaml(conf_dir() / "config.yaml")["hydra"]["help"]["template"]
    return Template(template).substitute(APP_CONFIG_GROUPS="".join(lines))


def choose_values(overrides: Sequence[str]) -> list[list[str]]:
    """Returns the overrides of some runs of a sweep, in which every value of every setting occurs.

    A value that cannot be told before the sweep begins, such as all options of a group, stays as it is.
    """
    choices = []
    for override in overrides:
        parsed = OverridesParser.create().parse_override(override)
        values = [override]
        if parsed.is_discrete_sweep():
            key = parsed.get_key_element()
            values = [f"{key}={value}" for value in parsed.sweep_string_iterator()]
        choices.append(values)
    runs = max(map(len, choices), default=1)
    return [[values[min(run, len(values) - 1)] for values in choices] for run in range(runs)]


def _search_own_options() -> list[str]:
    """Returns the override that makes Hydra find the user's own options."""
    folder = Path(OWN_OPTIONS).resolve()
    if not folder.is_dir() or folder == conf_dir():
        return []
    escaped = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return [f'hydra.searchpath=["file://{escaped}"]']


def _add_gates_of_run(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of `job=judge` with the gates of the judged run, unless others are given.

    Arguments of other jobs stay as they are, and also those for a folder that is no run: the job reports it.
    """
    values = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    run = Path(values.get("run", ""))
    if values.get("job") != "judge" or "validity" in values or not (run / ".hydra" / "hydra.yaml").is_file():
        return list(arguments)
    return _insert(arguments, [f"validity=[{','.join(gate_options(run)) or 'none'}]"])


def gate_options(run: Path) -> list[str]:
    """Returns the options of the group validity of a run that Hydra has started."""
    settings = run / ".hydra" / "hydra.yaml"
    choice = OmegaConf.select(_load(settings), "hydra.runtime.choices.validity")
    if choice is None:  # Hydra notes no choice for the list of the default configuration
        return list(map(str, OmegaConf.select(_load(settings.with_name("config.yaml")), "validity") or ()))
    return split_options(choice) if isinstance(choice, str) else list(map(str, choice))


def _load(path: Path) -> Any:
    """Returns the settings in a file of a run; raises a UserError if it is damaged."""
    try:
        return OmegaConf.create(read_yaml(path) or {})
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read, it is damaged: {shorten(str(error), 300)}") from error


def split_options(text: str) -> list[str]:
    """Returns the options in the value of an override, such as `[segmenter, image]`."""
    options = (option.strip(" '\"") for option in text.strip(" []").split(","))
    return [option for option in options if option]


def typed_overrides(overrides: Sequence[str]) -> list[str]:
    """Returns overrides as a user types them; Hydra gets a longer form (see `dillema.overrides`)."""
    names = [override.partition("=")[0] for override in overrides]
    return [
        override.removeprefix("++")
        for index, override in enumerate(overrides)
        # in older runs, null precedes a mapping that replaces another one
        if not (override.endswith("=null") and names[index] in names[index + 1 :])
    ]


def prefetch_command(overrides: Sequence[str]) -> str:
    """Returns the command that fetches all weights of a run with these overrides."""
    others = [o for o in typed_overrides(overrides) if not o.startswith(("job=", "job.", "hydra."))]
    return shlex.join(["python", "-m", "dillema", "job=prefetch", *others])


def _prepare_one(argument: str, override: Override) -> str:
    key = override.key_or_group
    is_plain = override.type is OverrideType.CHANGE and not key.startswith("hydra")
    return f"++{argument}" if is_plain and not _group_folder(key).is_dir() else argument


def _expand_home(argument: str) -> str:
    """Returns an override whose value begins with the home folder, which no shell expands after "a.b="."""
    key, _, value = argument.partition("=")
    return f"{key}={Path(value).expanduser()}" if value == "~" or value.startswith("~/") else argument


def _parse(argument: str) -> Override:
    try:
        return OverridesParser.create().parse_override(argument)
    except (HydraException, RecursionError, ValueError) as error:  # the last one for thousands of digits
        key, _, value = shorten(argument, 300).partition("=")
        remedy = _explain(key, value, shorten(str(error).splitlines()[0], 300))
        raise UserError(f"{shorten(argument, 300)!r} cannot be read: {remedy}") from error


def _explain(key: str, value: str, reason: str) -> str:
    """Returns why an override cannot be read, or how it is written."""
    parent, _, name = key.rpartition(".")
    if " " in key and key.startswith("~"):
        whole = shlex.quote(f"{parent[1:]}={{...}}")
        return f"the name of a setting holds no space; give the mapping that it is in without it: {whole}"
    if " " in key:
        whole = shlex.quote(f"{parent}={{{name}: {value}}}")
        return f"the name of a setting holds no space; give the mapping that it is in: {whole}"
    if value[:1] + value[-1:] in ("{}", "[]"):
        texts = "a text with '=', brackets, commas or quotes needs quotes of its own"
        return f"{reason}. In a list or a mapping, {texts}; as one text it is {_quote(key, value)}"
    if '"' in value:
        return f'{reason}. Quotes must be closed; inside of them, \\" stands for a quote'
    if value[:9].isdecimal():  # what is shortened ends in words
        return reason
    signs = "'=', brackets, commas, quotes or '#'"
    return f"a value with {signs} needs quotes of its own, inside those of the shell: {_quote(key, value)}"


def _quote(key: str, value: str) -> str:
    """Returns an override whose value is one text, as it is typed."""
    return shlex.quote(f'{key}="{value}"')


def _refuse_commas(argument: str, override: Override) -> None:
    """Raises a UserError for several values of a setting in what is no sweep."""
    if not override.is_sweep_override():
        return
    key, _, value = argument.partition("=")
    readings = ["a sweep over several values needs the flag -m"]
    if key in GROUPS_OF_SEVERAL or not _group_folder(key).is_dir():
        readings.append(f"a list needs brackets: {shlex.quote(f'{key}=[{value}]')}")
    if not _group_folder(key).is_dir():
        readings.append(f"a text with a comma needs quotes: {_quote(key, value)}")
    raise UserError(f"Ambiguous value in {shorten(argument, 300)!r}: {'; '.join(readings)}")


def _check_option(override: Override) -> None:
    """Raises a UserError for an option that a group does not have; the message suggests a similar one."""
    group = override.key_or_group
    folder = _group_folder(group)
    is_open_sweep = override.is_sweep_override() and not override.is_discrete_sweep()
    if is_open_sweep or override.is_delete() or not folder.is_dir():
        return
    folders = (folder, Path(OWN_OPTIONS, folder.relative_to(conf_dir())))
    options = sorted({path.stem for place in folders for path in place.glob("*.yaml")})
    value = list(override.sweep_string_iterator()) if override.is_sweep_override() else override.value()
    for option in value if isinstance(value, list) else [value]:
        if str(option).startswith("["):
            continue  # a list in a sweep: Hydra reports its mistakes
        files = [place / f"{option}.yaml" for place in folders]
        if isinstance(option, str) and option not in options and not any(map(_is_file, files)):
            near = _find_nearest(option, options)
            hint = f"; did you mean {group}={near[0]}?" if near else "."
            name = shorten(option, 300)
            raise UserError(
                f"{group}={name}: there is no such option{hint} The options are {', '.join(options)}"
            )


def _find_nearest(option: str, options: Sequence[str]) -> list[str]:
    """Returns the option that differs in few letters, else the first one that begins like it; [] for none."""
    beginnings = {name[: len(option) + 1]: name for name in reversed(options)}
    near = difflib.get_close_matches(option, [*options, *beginnings], n=1)
    return [beginnings.get(name, name) for name in near]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def _group_folder(key: str) -> Path:
    """Returns the folder of the options of a group, whether it exists or not."""
    return conf_dir() / key.partition("@")[0].lstrip("+~")
