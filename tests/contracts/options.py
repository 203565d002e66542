"""Every option of the configuration that names a class, and the contract of its group."""

from importlib import import_module
from typing import NamedTuple

from omegaconf import OmegaConf

from dillema import backend
from dillema.config import conf_dir

CONTRACTS = {
    "dataset": backend.Dataset,
    "captioner": backend.Captioner,
    "llm": backend.LanguageModel,
    "prompt": backend.Editor,
    "edits": backend.EditStrategy,
    "conditioning": backend.Conditioning,
    "generator": backend.Generator,
    "validity": backend.Gate,
    "model": backend.Model,
    "quality": backend.Quality,
    "execution": backend.Executor,
    "reference": backend.Reference,
}


class Option(NamedTuple):
    group: str
    name: str
    target: type

    @property
    def contract(self):
        return CONTRACTS[self.group]


def options(group=None):
    """Returns the options of one group, or of all."""
    selected = []
    for path in sorted(conf_dir().glob("*/*.yaml")):
        target = _target(path)
        if path.parent.name in CONTRACTS and group in (None, path.parent.name) and target:
            module, _, name = target.rpartition(".")
            selected.append(Option(path.parent.name, path.stem, getattr(import_module(module), name)))
    return selected


def _target(path):
    """Returns the class of an option, which may be named in another file; None for no back-end."""
    content = OmegaConf.load(path)
    if "_target_" in content or not content:
        return content.get("_target_")
    base = next(
        (name for name in content.get("defaults", []) if isinstance(name, str) and name != "_self_"), None
    )
    return _target(path.with_stem(base)) if base else None
