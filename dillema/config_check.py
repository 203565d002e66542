"""Finds all mistakes of a configuration at once, before heavy libraries are imported."""

import difflib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from . import licences
from .config import Block, Blocks, Config, Tracking, refuse, without_hydra
from .errors import shorten
from .fields import Constraint
from .gate_check import find_dependent_gates, import_target

DIRECTIVES = {"_target_", "_partial_", "_convert_", "_recursive_"}

METHODS = {
    "dataset": ("samples",),
    "captioner": ("load", "caption"),
    "llm": ("load", "ask"),
    "prompt": ("load", "keywords", "rewrite"),
    "edits": ("plan",),
    "generator": ("load", "generate"),
    "validity": ("load", "score", "reasons"),
    "model": ("load", "predict"),
    "execution": ("load", "map", "stop"),
    "quality": ("load", "score", "distance"),
    "reference": ("samples",),
}
"""The methods that the classes of a group must have; see `dillema.backend`."""

MOVED = {
    "devices": "execution.devices",
    "execution.max_failures": "max_failures",
    "execution.retry_failed": "retry_failed",
}
"""The new names of settings of version 0.1."""


def check(cfg: DictConfig) -> None:
    """Raises a UserError that names all mistakes of a configuration."""
    refuse(list_mistakes(cfg))


def list_mistakes(cfg: DictConfig) -> list[str]:
    """Returns all mistakes of a configuration.

    A job can add its own: its module may have a function `find_mistakes`, which is called with the
    configuration once all values fit.
    """
    settings = without_hydra(cfg)
    mistakes = list(_check_arguments(settings, Config, ""))
    if not mistakes:
        mistakes = [*_find_dependent_gates(settings), *_find_mistakes_of_job(settings)]
        mistakes += licences.find_mistakes(settings)
    return mistakes


def check_inputs(cfg: DictConfig) -> None:
    """Raises a UserError when an input of the job is missing, such as the folder of the data.

    The module of a job can have a function `check_inputs` for it. It is asked before a folder is made for
    the job, and not by `check`, for a configuration can be right where its data is not.
    """
    module = import_module(cfg.job._target_.rpartition(".")[0])
    getattr(module, "check_inputs", lambda _: None)(without_hydra(cfg))


def _check_arguments(node: DictConfig, target: Any, path: str) -> Iterator[str]:
    """Yields the mistakes in the arguments that a node holds for a target."""
    parameters = inspect.signature(target).parameters
    hints = _hints(target)
    keys = [str(key) for key in node if str(key) not in DIRECTIVES]
    for key in keys:
        try:
            yield from _check_argument(node, key, target, hints, path)
        except MissingMandatoryValue:
            yield f"{path}{key}: needs a value, as in {path}{key}=..."
        except InterpolationKeyError as error:
            reason = str(error).splitlines()[0]
            yield f"{path}{key}: {reason}. An environment variable is written ${{oc.env:NAME}}"
        except OmegaConfBaseException as error:
            yield f"{path}{key}: {str(error).splitlines()[0]}"
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in parameters.values():
        is_needed = parameter.default is parameter.empty and parameter.kind not in variadic
        if is_needed and parameter.name not in keys and not node.get("_partial_"):
            yield f"{path}{parameter.name}: {_name(target)} needs it"


def _check_argument(
    node: DictConfig, key: str, target: Any, hints: Mapping[str, Any], path: str
) -> Iterator[str]:
    """Yields the mistakes in one argument."""
    parameters = inspect.signature(target).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    where, hint, value = path + key, hints.get(key, Any), node[key]
    if key not in parameters and not open_ended:
        yield _describe_unknown(where, node, key, target)
    elif Block in (hint, *get_args(hint)) and value is not None:
        yield from check_block(value, where)
    elif hint is Blocks:
        yield from _check_blocks(value, where)
    elif hint is Tracking and isinstance(value, DictConfig):
        yield from _check_arguments(value, Tracking, f"{where}.")
    else:
        yield from _check_value(node, key, hint, where)


def _check_value(node: DictConfig, key: str, hint: Any, where: str) -> Iterator[str]:
    """Yields the mistakes in a plain value, or in the blocks that it holds."""
    value = node[key]
    plain = (
        OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
        if OmegaConf.is_config(value)
        else value
    )
    if not fits(plain, hint):
        yield from _describe_misfits(plain, hint, where)
    elif isinstance(value, DictConfig) and not OmegaConf.is_interpolation(node, key):
        # the value that an interpolation refers to is checked at its own place
        for name, part in _entries(value):
            if isinstance(part, DictConfig) and "_target_" in part:
                yield from check_block(part, f"{where}.{name}")


def _describe_misfits(plain: Any, hint: Any, where: str) -> Iterator[str]:
    """Yields what is wrong with a value; for a mapping, with each entry that does not fit."""
    arguments = get_args(hint)
    if get_origin(hint) is dict and isinstance(plain, dict):
        for key, value in plain.items():
            if not fits(value, arguments[1]):
                example = f", as in {where}.{key}=[{value}]" if fits([value], arguments[1]) else ""
                shown = shorten(repr(value), 300)
                yield f"{where}.{key}: must be {describe(arguments[1])}, not {shown}{example}"
    else:
        yield f"{where}: must be {describe(hint)}, not {shorten(repr(plain), 300)}"


def _describe_unknown(where: str, node: DictConfig, key: str, target: Any) -> str:
    """Returns the message for a setting that does not exist."""
    if where in MOVED:
        return f"{where}: is called {MOVED[where]} now"
    if where == key and key in (node.get("job") or ()):
        return f"{where}: is a setting of the job; did you mean job.{key}={shorten(str(node[key]), 300)}?"
    parameters = list(inspect.signature(target).parameters)
    near = difflib.get_close_matches(key, parameters, n=1)
    prefix = where.removesuffix(key)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"it takes {', '.join(parameters)}"
    return f"{where}: {_name(target)} takes no {key}; {hint}"


def check_block(node: Any, path: str) -> Iterator[str]:
    """Yields the mistakes in the option of a group, which lies at a path of the configuration."""
    if isinstance(node, DictConfig) and OmegaConf.is_missing(node, "_target_"):
        yield f"{path}._target_: needs a value, as in {path}._target_=my_package.MyClass"
        return
    if not isinstance(node, DictConfig) or "_target_" not in node:
        yield f"{path}: must be an option of the group {path}, not {node!r}"
        return
    try:
        target = import_target(node["_target_"])
    except Exception as error:  # importing a module may raise anything
        yield f"{path}._target_: {node['_target_']} cannot be imported: {error}"
        return
    lacking = [method for method in METHODS.get(path.partition(".")[0], ()) if not hasattr(target, method)]
    if inspect.isclass(target) and path.count(".") <= 1 and lacking:
        yield (
            f"{path}._target_: {target.__name__} has no method {lacking[0]}; "
            "dillema/backend.py says what is needed"
        )
    yield from _check_arguments(node, target, f"{path}.")


def _check_blocks(node: Any, path: str) -> Iterator[str]:
    """Yields the mistakes in the options of a group that has several, by name."""
    if node is None:
        return
    if not isinstance(node, DictConfig):
        yield f"{path}: must hold options under their names, not {node!r}"
        return
    paths_by_name: dict[Any, str] = {}
    for key, block in _entries(node):
        where = f"{path}.{key}"
        if not isinstance(block, DictConfig):
            yield (
                f"{where}: the options of this group lie under their names: set {path}.<name>.{key}; "
                f"a file begins with `# @package {path}.<name>`"
            )
            continue
        if "_target_" not in block:
            near = difflib.get_close_matches(key, [str(other) for other in node if str(other) != key], n=1)
            hint = f"did you mean {path}.{near[0]}?" if near else f"choose it with {path}={key}"
            yield f"{where}: this run has no {path} called {key}; {hint}"
            continue
        yield from check_block(block, where)
        name = block.get("name") or key
        if name in paths_by_name:
            yield (
                f"{where}.name: {paths_by_name[name]} is called {name} too; "
                "give one of them another name, for results are kept by it"
            )
        paths_by_name[name] = where


def _entries(node: DictConfig) -> Iterator[tuple[str, Any]]:
    """Yields the entries of a node by their names."""
    for key in node:
        yield str(key), node[key]


def _find_dependent_gates(cfg: DictConfig) -> Iterator[str]:
    """Yields the gates that depend on a model under test. Those of a finished run are checked by its job."""
    if cfg.run is not None:
        return
    models, gates = (OmegaConf.to_container(cfg[name], resolve=True) for name in ("model", "validity"))
    yield from find_dependent_gates(cast(Any, models) or {}, cast(Any, gates) or {}, cfg.store)


def _find_mistakes_of_job(cfg: DictConfig) -> Iterator[str]:
    module = import_module(cfg.job._target_.rpartition(".")[0])
    yield from getattr(module, "find_mistakes", lambda _: ())(cfg)


def _name(target: Any) -> str:
    return "the configuration" if target is Config else str(target.__name__)


def _hints(target: Any) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except NameError:  # a user's module may import the types only for type checkers
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Returns whether a plain value of YAML fits a type hint; True for hints that no YAML value can meet."""
    return make_check(hint)(value)


def make_check(hint: Any) -> Callable[[Any], bool]:
    """Returns `fits` for one hint. Files of many lines need it: reading a hint takes longer than a check."""
    check, types = _make_check(hint), _exact_types(hint)
    return (lambda value: type(value) in types or check(value)) if types else check


def _exact_types(hint: Any) -> frozenset[type]:
    """Returns the types all of whose values fit a hint; none where the type alone does not tell."""
    if (get_origin(hint) or hint) in (Union, UnionType):
        parts = [_exact_types(choice) for choice in get_args(hint)]
        return frozenset().union(*parts) if all(parts) else frozenset()
    return EXACT_TYPES.get(hint, frozenset())


def _make_check(hint: Any) -> Callable[[Any], bool]:
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin is Annotated:
        check = make_check(arguments[0])
        constraints = [extra for extra in arguments[1:] if isinstance(extra, Constraint)]
        return lambda value: check(value) and all(constraint.holds(value) for constraint in constraints)
    if origin in (Union, UnionType):
        checks = [make_check(choice) for choice in arguments]
        return lambda value: any(check(value) for check in checks)
    if origin is Literal:
        return lambda value: any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin in (int, float):
        return lambda value: isinstance(value, (int, origin)) and not isinstance(value, bool)
    if origin in (bool, NoneType):
        return lambda value: isinstance(value, origin)
    if origin in (str, Path):
        return lambda value: isinstance(value, str)
    return _make_collection_check(origin, arguments)


def _make_collection_check(origin: Any, arguments: tuple[Any, ...]) -> Callable[[Any], bool]:
    checks = [make_check(argument) for argument in arguments]
    types = [_exact_types(argument) for argument in arguments]
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        if not checks:
            return lambda value: isinstance(value, dict)
        of_key, of_value = checks
        return lambda value: (
            isinstance(value, dict)
            and (types[0].issuperset(map(type, value)) or all(map(of_key, value)))
            and (types[1].issuperset(map(type, value.values())) or all(map(of_value, value.values())))
        )
    if origin is tuple and arguments and arguments[-1] is not ...:
        return lambda value: (
            isinstance(value, list)
            and len(value) == len(checks)
            and all(check(item) for check, item in zip(checks, value, strict=True))
        )
    if inspect.isclass(origin) and issubclass(origin, Collection):
        return lambda value: (
            isinstance(value, list)
            and (not checks or types[0].issuperset(map(type, value)) or all(map(checks[0], value)))
        )
    return lambda value: True


EXACT_TYPES: dict[Any, frozenset[type]] = {
    int: frozenset([int]),
    float: frozenset([int, float]),
    bool: frozenset([bool]),
    str: frozenset([str]),
    Path: frozenset([str]),
    NoneType: frozenset([NoneType]),
}

PLAIN_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    NoneType: "null",
}


def describe(hint: Any) -> str:
    """Returns the description of a type hint, for messages."""
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin is Annotated:
        constraints = [extra.description for extra in arguments[1:] if isinstance(extra, Constraint)]
        return " ".join([describe(arguments[0]), *constraints])
    if origin in (Union, UnionType):
        return " or ".join(map(describe, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple and arguments and arguments[-1] is not ...:
        return f"a list of {len(arguments)}: {', '.join(map(describe, arguments))}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping" + (
            f" of {describe(arguments[0])} to {describe(arguments[1])}" if arguments else ""
        )
    if inspect.isclass(origin) and origin is not str and issubclass(origin, Collection):
        return "a list" + (f", each {describe(arguments[0])}" if arguments else "")
    return PLAIN_NAMES.get(origin, str(hint))
