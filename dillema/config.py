"""Where the configuration lies, what is wrong with one, and the only place where a block of it becomes an object."""

import difflib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from .errors import UserError

Block = NewType("Block", DictConfig)
"""The option of a group: a `_target_` and its arguments."""

Blocks = NewType("Blocks", DictConfig)
"""The options of a group of which a run may have several, by name."""


@dataclass(frozen=True)
class Must:
    """What a setting must be besides its type, said in its hint: Annotated[int, Must("from 1 on", lambda value: value >= 1)]."""

    be: str
    holds: Callable[[Any], bool]


Positive = Annotated[int, Must("from 1 on", lambda value: value >= 1)]

DIRECTIVES = {"_target_", "_partial_", "_convert_", "_recursive_"}


@dataclass
class Tracking:
    """Where MLflow keeps its runs (`uri`) and their files, under which experiment, and what an hour of the machine costs."""

    uri: str
    artifacts: str
    experiment: str
    price_per_hour: float | None = None


@dataclass
class Config:
    """What stands at the top of a configuration: an option of each group, and what all of them share."""

    job: Block
    dataset: Block
    captioner: Block
    llm: Block
    prompt: Block
    edits: Block
    conditioning: Block
    generator: Block
    validity: Block
    model: Blocks
    execution: Block
    seed: int
    counterfactuals: Positive
    save_controls: bool
    store: str
    size: Literal["generated", "source"] | tuple[int, int]
    devices: Positive
    tracking: Tracking
    quality: Block | None = None


def conf_dir() -> Path:
    """Returns the folder of the configuration files: in the package when it was installed from a wheel, else beside it."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if (inside / "config.yaml").exists() else package.parent / "conf"


def package_file(package: str, path: str) -> str:
    """Returns where a file of an installed package lies, without importing the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package} is not installed: pip install {package.replace('_', '-')}")
    return str(Path(spec.submodule_search_locations[0]) / path)


OmegaConf.register_new_resolver("package", package_file, replace=True)


def build(block: DictConfig) -> Any:
    """Returns the object that a block describes; errors come out as its constructor raised them."""
    try:
        return instantiate(block, _convert_="all")
    except InstantiationException as error:
        raise error.__cause__ or error from None


def check(cfg: DictConfig) -> None:
    """Raises a UserError that names all mistakes of a configuration.

    A job may know more of them: where its module has a function `mistakes`, that is given the configuration once all values fit.
    """
    refuse(list(_arguments(cfg, Config, "")) or [*_partial_judges(cfg), *_of_the_job(cfg)])


def refuse(mistakes: Sequence[str]) -> None:
    """Raises a UserError that names all mistakes, where there are any."""
    if mistakes:
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise UserError("\n  ".join([f"The configuration has {count}:", *mistakes]))


def _block(node: Any, path: str) -> Iterator[str]:
    """Yields what is wrong with the option of a group."""
    if isinstance(node, DictConfig) and OmegaConf.is_missing(node, "_target_"):
        yield f"{path}._target_: needs a value, as in {path}._target_=my_package.MyClass"
        return
    if not isinstance(node, DictConfig) or "_target_" not in node:
        yield f"{path}: must be an option of the group {path}, not {node!r}"
        return
    try:
        target = _target(node["_target_"])
    except Exception as error:  # whatever a module raises when it is imported
        yield f"{path}._target_: {node['_target_']} cannot be imported: {error}"
        return
    yield from _arguments(node, target, f"{path}.")


def _blocks(node: DictConfig, path: str) -> Iterator[str]:
    """Yields what is wrong with the options of a group that lie under their names."""
    names: dict[Any, str] = {}
    for key, block in ((str(key), block) for key, block in node.items()):
        if not isinstance(block, DictConfig):
            yield f"{path}.{key}: the options of this group lie under their names: set {path}.<name>.{key}; a file begins with `# @package {path}.<name>`"
            continue
        yield from _block(block, f"{path}.{key}")
        name = block.get("name") or key
        if name in names:
            yield f"{path}.{key}.name: {names[name]} is called {name} too; give one of them another name, for results are kept by it"
        names[name] = f"{path}.{key}"


def _partial_judges(cfg: DictConfig) -> Iterator[str]:
    """Yields the weights by which a model under test would judge the images that it is tested on."""
    tested, judges = ({value: where for where, value in _weights(OmegaConf.to_container(cfg[group], resolve=True), group)} for group in ("model", "validity"))
    for value in tested.keys() & judges.keys():
        yield f"{judges[value]}: {value} is a model under test ({tested[value]}), and a judge must be independent; choose another, or validity=none"


def _of_the_job(cfg: DictConfig) -> Iterator[str]:
    yield from getattr(import_module(cfg.job._target_.rpartition(".")[0]), "mistakes", lambda _: ())(cfg)


def _weights(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yields where a block, and those within it, name a file, a folder or a hub id of weights, and what is named."""
    fields = getattr(_target(node["_target_"]), "weights", ()) if isinstance(node, dict) and "_target_" in node else ()
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key in fields and "/" in str(value):
            yield f"{path}.{key}", str(Path(value).resolve()) if Path(value).exists() else value
        yield from _weights(value, f"{path}.{key}")


def _target(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def _arguments(node: DictConfig, target: Any, path: str) -> Iterator[str]:
    """Yields what is wrong with the arguments that a node holds for a target."""
    name = "the configuration" if target is Config else target.__name__
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except NameError:  # of what a user's module imports for type checkers only
        hints = {}
    keys = [str(key) for key in node if key not in DIRECTIVES]
    for key in keys:
        where, hint = path + key, hints.get(key, Any)
        try:
            value = node[key]
            if key not in parameters and not open_ended:
                near = difflib.get_close_matches(key, parameters, n=1)
                yield f"{where}: {name} takes no {key}; " + (f"did you mean {path}{near[0]}?" if near else f"it takes {', '.join(parameters)}")
            elif Block in (hint, *get_args(hint)) and value is not None:
                yield from _block(value, where)
            elif hint is Blocks and isinstance(value, DictConfig):
                yield from _blocks(value, where)
            elif hint is Tracking and isinstance(value, DictConfig):
                yield from _arguments(value, Tracking, f"{where}.")
            else:
                plain = OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value
                if not _fits(plain, hint):
                    yield f"{where}: must be {_words(hint)}, not {plain!r}"
                elif isinstance(value, DictConfig) and not OmegaConf.is_interpolation(node, key):  # what it refers to is checked where it stands
                    for name, part in ((str(name), part) for name, part in value.items()):
                        if isinstance(part, DictConfig) and "_target_" in part:
                            yield from _block(part, f"{where}.{name}")
        except MissingMandatoryValue:
            yield f"{where}: needs a value, as in {where}=..."
        except OmegaConfBaseException as error:
            yield f"{where}: {str(error).splitlines()[0]}"
    for parameter in parameters.values():
        needed = parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if needed and parameter.name not in keys and not node.get("_partial_"):
            yield f"{path}{parameter.name}: {name} needs it"


def _fits(value: Any, hint: Any) -> bool:
    """Returns whether a plain value (as YAML has them) will do for a type hint; True for hints that YAML cannot meet."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        return _fits(value, inner[0]) and all(must.holds(value) for must in inner[1:] if isinstance(must, Must))
    if kind in (Union, UnionType):
        return any(_fits(value, choice) for choice in inner)
    if kind is Literal:
        return value in inner
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if kind in (bool, NoneType):
        return isinstance(value, kind)
    if kind in (str, Path):
        return isinstance(value, str)
    if not inspect.isclass(kind):
        return True
    if issubclass(kind, Mapping):
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items() if inner)
    if kind is tuple and inner and inner[-1] is not ...:
        return isinstance(value, list) and len(value) == len(inner) and all(map(_fits, value, inner))
    if issubclass(kind, Collection):
        return isinstance(value, list) and all(_fits(v, inner[0]) for v in value if inner)
    return True


def _words(hint: Any) -> str:
    """Returns how a person calls what a type hint asks for."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        return " ".join([_words(inner[0]), *(must.be for must in inner[1:] if isinstance(must, Must))])
    if kind in (Union, UnionType):
        return " or ".join(map(_words, inner))
    if kind is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if kind is tuple and inner and inner[-1] is not ...:
        return f"a list of {len(inner)}: {', '.join(map(_words, inner))}"
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return "a mapping" + (f" of {_words(inner[0])} to {_words(inner[1])}" if inner else "")
    if inspect.isclass(kind) and kind is not str and issubclass(kind, Collection):
        return "a list" + (f", each {_words(inner[0])}" if inner else "")
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path", NoneType: "null"}.get(kind, str(hint))
