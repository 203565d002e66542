"""Finds and composes the configuration, and builds the objects that its blocks describe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NewType

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from .errors import UserError
from .fields import NotNegative, Positive, Weight
from .shard import ShardName

Block = NewType("Block", DictConfig)
"""The option of a group: a `_target_` and its arguments."""

Blocks = NewType("Blocks", DictConfig)
"""The options of a group that may have several in one run, by name."""


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


OmegaConf.register_new_resolver("package", package_file, replace=True)


def build(block: DictConfig) -> Any:
    """Returns the object that a block describes; raises the errors of its constructor unchanged."""
    try:
        return instantiate(block, _convert_="all")
    except InstantiationException as error:
        raise error.__cause__ or error from None


def compose(overrides: Sequence[str]) -> DictConfig:
    """Returns the default configuration with these overrides; leaves no state of Hydra behind.

    Hydra's own settings are under `hydra`. Raises the errors of Hydra for overrides that do not fit.
    """
    import hydra

    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="dillema"):
        return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Returns a configuration without Hydra's own settings."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def refuse(mistakes: Sequence[str]) -> None:
    """Raises a UserError that names all mistakes, if there are any."""
    if mistakes:
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise UserError("\n  ".join([f"The configuration has {count}:", *mistakes]))
