"""Finds and composes the configuration, and builds the objects that its blocks describe."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NewType

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from . import merging
from .decoding import read_text_file
from .errors import UserError
from .fields import NotNegative, Positive, Weight
from .shard import ShardName

Block = NewType("Block", DictConfig)
"""The option of a group: a `_target_` and its arguments."""

Blocks = NewType("Blocks", DictConfig)
"""The options of a group that may have several in one run, by name."""


_COMPOSING = threading.RLock()  # Hydra's state is that of the process


@dataclass
class Tracking:
    """The settings of MLflow, and the price of the machine.

    Attributes:
        uri: Where MLflow keeps its runs.
        artifacts: Where MLflow keeps the files of its runs.
        experiment: The experiment that the runs belong to.
        price_per_hour: What an hour of the machine costs.
    """

    uri: str
    artifacts: str
    experiment: str
    price_per_hour: Weight | None = None


@dataclass
class Config:
    """The top level of a configuration: an option of each group, and the settings that they share."""

    job: Block
    dataset: Block
    captioner: Block
    llm: Block
    prompt: Block
    edits: Block
    conditioning: Block
    generator: Block
    validity: Blocks
    model: Blocks
    execution: Block
    seed: NotNegative
    counterfactuals: Positive
    images_per_counterfactual: Positive
    correct_captions: bool
    placebo: Literal[0, 1]
    max_failures: NotNegative
    retry_failed: bool
    save_controls: bool
    store: str
    size: Literal["generated", "source"] | tuple[Positive, Positive]
    tracking: Tracking
    name: str | None = None
    run: str | None = None
    shard: ShardName | None = None
    objective: str | None = None
    quality: Block | None = None
    commercial: bool = False
    licences: dict[str, str] = field(default_factory=dict)
    reference: Block | None = None


def conf_dir() -> Path:
    """Returns the folder of the configuration files.

    It lies in the package when that was installed from a wheel, and beside the package in a checkout.
    """
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if (inside / "config.yaml").exists() else package.parent / "conf"


def package_file(package: str, path: str) -> str:
    """Returns where a file of an installed package lies, without importing the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the package {package} is not installed: pip install {package.replace('_', '-')}"
        )
    return str(Path(spec.submodule_search_locations[0]) / path)


def _resolve_package_file(package: str, path: str, *fallback: str | None) -> str | None:
    """Returns the file of a package, or the fallback where one is given and the package is not installed."""
    try:
        return package_file(package, path)
    except ModuleNotFoundError:
        if not fallback:
            raise
        return fallback[0]


OmegaConf.register_new_resolver("package", _resolve_package_file, replace=True)
merging.install()


def build(block: DictConfig) -> Any:
    """Returns the object that a block describes.

    Raises a UserError for a class that cannot be imported, and the errors of its constructor unchanged.
    """
    try:
        return instantiate(block, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ImportError):
            raise UserError(f"{block.get('_target_')} cannot be imported: {error.__cause__}") from error
        raise error.__cause__ or error from None


def compose(overrides: Sequence[str]) -> DictConfig:
    """Returns the default configuration with these overrides; leaves no state of Hydra behind.

    Hydra's own settings are under `hydra`. Raises the errors of Hydra for overrides that do not fit, and a
    UserError for a file or a value that cannot be read.
    """
    import hydra

    with (
        _no_other_hydra(),
        hydra.initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="dillema"),
    ):
        try:
            return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
        except YAMLError as error:
            raise UserError(f"a file of options cannot be read: {error}") from error
        except (OSError, ValueError, RecursionError) as error:
            options = ", ".join(override for override in overrides if "." not in override.partition("=")[0])
            raise UserError(f"the options {options:.500} cannot be read: {error}") from error


@contextmanager
def _no_other_hydra() -> Iterator[None]:
    """Keeps other threads from composing, and sets aside the state of an application that uses Hydra."""
    from hydra.core.global_hydra import GlobalHydra

    with _COMPOSING:
        outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            yield
        finally:
            GlobalHydra.instance().hydra = outer  # of the instance that Hydra has put in its place


def read_yaml(path: Path) -> Any:
    """Returns the values in a YAML file, as they are written.

    Raises an OSError or a ValueError for a file that cannot be read.
    """
    try:
        return OmegaConf.to_container(OmegaConf.create(read_text_file(path)))
    except (YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"it is no YAML: {error}") from error


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Returns a configuration without Hydra's own settings."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def refuse(mistakes: Sequence[str]) -> None:
    """Raises a UserError that names all mistakes, if there are any."""
    if mistakes:
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise UserError("\n  ".join([f"The configuration has {count}:", *mistakes]))
