"""The input of a job."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class JobContext:
    """A checked configuration, and where and how the job was started.

    Attributes:
        folder: The existing folder for the files of the job.
        overrides: The overrides of the command line.
        options: The option of each group.
        sweep: The folder of the sweep that the job belongs to.
    """

    cfg: DictConfig
    folder: Path
    overrides: tuple[str, ...] = ()
    options: Mapping[str, str] | None = None
    sweep: Path | None = None

    @classmethod
    def from_hydra(cls, cfg: DictConfig) -> "JobContext":
        """Returns the context of a job that Hydra has started."""
        hydra = HydraConfig.get()
        sweep = Path(hydra.sweep.dir).absolute() if hydra.mode == RunMode.MULTIRUN else None
        folder = Path(hydra.runtime.output_dir)
        return cls(cfg, folder, tuple(hydra.overrides.task), group_options(hydra.runtime.choices), sweep)

    @property
    def name(self) -> str:
        """Returns the name of the run: the setting `name`, or else the last two parts of its folder."""
        absolute = self.folder.absolute()
        return self.cfg.get("name") or f"{absolute.parent.name} {absolute.name}"

    def settings(self) -> dict[str, Any]:
        """Returns the values of the configuration by their dotted names."""
        return dict(flatten(OmegaConf.to_container(self.cfg)))


def group_options(choices: Mapping[str, Any]) -> dict[str, str]:
    """Returns the option of each group, from Hydra's choices."""
    return {str(group): str(option) for group, option in choices.items() if "/" not in str(group)}


def flatten(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of a configuration with their dotted names."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{path}{key}.")
        elif key not in ("_target_", "_partial_"):
            yield path + str(key), value


def format_value(value: Any) -> str:
    """Returns a value as it is typed on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(format_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
