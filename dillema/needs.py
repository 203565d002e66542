"""What the back-ends of a configuration open: files, folders, hub ids and URLs."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from .config import build
from .fields import WEIGHTS, marked_fields

GROUPS_OF_SEVERAL = ("validity", "model")
SKIPPED_GROUPS = ("job", "dataset", "llm")  # the language model is a part of the editor
ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".gguf", ".pt2")  # of files of weights


@dataclasses.dataclass(frozen=True)
class Need:
    """Something that a back-end opens.

    Attributes:
        setting: The setting that names it, such as generator.controlnet.canny.
        address: A path, a hub id, a file on the hub (`<owner>/<repository>/<path>`) or a URL.
        unused: Names of components of a pipeline that are not loaded.
        part: The back-end that opens it, whose settings say in which form.
    """

    setting: str
    address: str
    unused: frozenset[str] = frozenset()
    part: Any = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def stage(self) -> str:
        """Returns the option that needs it, such as generator or model.resnet18."""
        return name_stage(self.setting)

    @property
    def is_text(self) -> bool:
        """Returns whether it is a prompt or a vocabulary, and holds no weights."""
        return self.setting.startswith("prompt.")

    @property
    def is_local(self) -> bool:
        """Returns whether it is a path that exists on this machine."""
        return "://" not in self.address and Path(self.address).exists()


def name_stage(setting: str) -> str:
    """Returns the option that a setting belongs to, such as generator or model.resnet18."""
    group, _, rest = setting.partition(".")
    return f"{group}.{rest.partition('.')[0]}" if group in GROUPS_OF_SEVERAL else group


def build_parts(cfg: DictConfig) -> dict[str, Any]:
    """Returns the back-ends of a configuration by their setting; nothing is loaded."""
    parts: dict[str, Any] = {}
    for group in map(str, cfg):
        block = cfg[group]
        if not isinstance(block, DictConfig) or group in SKIPPED_GROUPS:
            continue
        if group in GROUPS_OF_SEVERAL:
            parts |= {f"{group}.{name!s}": build(option) for name, option in block.items()}
        elif "_target_" in block:
            parts[group] = build(block)
    return parts


def list_needs(parts: Mapping[str, Any]) -> list[Need]:
    """Returns what back-ends open, each address once."""
    needs: dict[str, Need] = {}
    for need in list_uses(parts):
        needs.setdefault(need.address, need)
    return list(needs.values())


def list_uses(parts: Mapping[str, Any]) -> list[Need]:
    """Returns what back-ends open, an address once for each option that opens it."""
    uses: dict[tuple[str, str], Need] = {}
    for setting, part in parts.items():
        for need in _find(part, setting):
            uses.setdefault((need.stage, need.address), need)
    return list(uses.values())


def _find(part: Any, where: str) -> Iterator[Need]:
    """Yields what a back-end, and back-ends in it, open.

    A back-end lists its addresses in `downloads()`. Without that method they are the values of its fields
    hinted `Weights`.
    """
    if isinstance(part, Mapping):
        for name, member in part.items():
            yield from _find(member, f"{where}.{name}")
    if isinstance(part, (list, tuple)):
        for member in part:
            yield from _find(member, where)
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.init}
    weights = {name: fields[name] for name in marked_fields(type(part), WEIGHTS) if fields.get(name)}
    # a pipeline does not load a component that is switched off or replaced by other weights
    unused = frozenset({name for name, value in fields.items() if value is False} | weights.keys())
    settings = dict(_texts(weights, where))
    addresses = part.downloads() if hasattr(part, "downloads") else [*settings]
    files = [address for address in settings if Path(address).suffix in ENDINGS or Path(address).exists()]
    for address in dict.fromkeys([*addresses, *files]):
        yield Need(settings.get(address, where), address, unused, part)
    for name, value in fields.items():
        yield from _find(value, "llm" if name == "llm" else f"{where}.{name}")


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yields the texts in a value, each with its setting."""
    if isinstance(value, str):
        yield value, where
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield from _texts(member, f"{where}.{name}")
    elif isinstance(value, (list, tuple)):
        for member in value:
            yield from _texts(member, where)
