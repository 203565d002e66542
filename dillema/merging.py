"""Lets a mapping that is given replace that of an option, in files and overrides; Hydra merges the two."""

from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

REPLACED_MAPPINGS = (
    *("vary", "where", "class_map", "controlnet", "parts", "licences"),
    *("folders", "columns", "values", "normal"),  # of a reference
)
"""Settings that are mappings, each of which is given as a whole."""

OWN_GROUPS = frozenset({"captioner", "edits", "conditioning", "generator"})
"""Groups by which a configuration of DILLEMA is told from that of another application in this process."""

_compose_files = ConfigLoaderImpl._compose_config_from_defaults_list
_apply_overrides = ConfigLoaderImpl._apply_overrides_to_config


def install() -> None:
    """Changes how Hydra composes configurations in this process.

    Hydra has no setting for it, and no form of an override: a sweep keeps one override of a name, so that one
    cannot empty the mapping before another one fills it. What is replaced here is private to Hydra, whose
    version pyproject.toml therefore bounds.
    """
    loader: Any = ConfigLoaderImpl
    loader._compose_config_from_defaults_list = _compose_in_order
    loader._apply_overrides_to_config = staticmethod(_apply_in_order)


def _compose_in_order(loader: ConfigLoaderImpl, defaults: list[ResultDefault], repo: Any) -> DictConfig:
    """Returns the configuration that files give, each of which replaces mappings of those before it."""
    if not {str(default.config_path).partition("/")[0] for default in defaults} >= OWN_GROUPS:
        return _compose_files(loader, defaults, repo)
    cfg = OmegaConf.create()
    for default in defaults:
        part = _compose_files(loader, [default], repo)
        try:
            _empty(cfg, part)
            cfg.merge_with(part)
        except OmegaConfBaseException as error:
            raise ConfigCompositionException(f"In '{default.config_path}': {error}") from error
    return cfg


def _apply_in_order(overrides: list[Override], cfg: DictConfig) -> None:
    """Applies overrides; those that are mappings replace what is there."""
    if not set(cfg) >= OWN_GROUPS:
        return _apply_overrides(overrides, cfg)
    for override in overrides:
        key = override.key_or_group
        if (
            key.rpartition(".")[2] in REPLACED_MAPPINGS
            and isinstance(override.value(), dict)
            and OmegaConf.is_dict(OmegaConf.select(cfg, key, throw_on_missing=False))
        ):
            OmegaConf.update(cfg, key, None, force_add=True)
        _apply_overrides([override], cfg)


def _empty(cfg: DictConfig, part: DictConfig) -> None:
    """Removes the mappings that another configuration replaces."""
    for key in part:
        if not _holds_mapping(part, key) or key == "hydra":
            continue
        if key in REPLACED_MAPPINGS and key != "parts":  # a file composes parts, then sets them
            cfg[key] = None
        elif _holds_mapping(cfg, key):
            _empty(cfg[key], part[key])


def _holds_mapping(node: DictConfig, key: Any) -> bool:
    is_plain = not OmegaConf.is_interpolation(node, key) and not OmegaConf.is_missing(node, key)
    return is_plain and OmegaConf.is_dict(node.get(key))
