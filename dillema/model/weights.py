"""Reads weights from the files of training scripts, without running pickled code."""

import argparse
import logging
import pathlib
import types
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

log = logging.getLogger(__name__)

SAVED_WEIGHTS = "model.safetensors"
"""The file of weights in a folder that `Trainable.save` wrote."""

STATE_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "state_dict_ema",
    "model_ema",
    "ema",
)
"""The keys under which training scripts store the weights, preferred ones first."""

WRAPPERS = ("module.", "_orig_mod.")
"""The prefixes that DataParallel and torch.compile add to the names of weights."""

_HOW_TO_SAVE = "torch.save(model.state_dict(), ...) writes such a file"


def expand_home(path: str) -> str:
    """Returns a path with the home folder for a leading ~; anything else as it is."""
    return str(Path(path).expanduser()) if path.startswith("~") else path


def read_weights(path: str, setting: str) -> dict[str, "Tensor"]:
    """Returns the weights in a file: .safetensors, or what torch, Lightning or a training script saved.

    Names are without the prefixes of DataParallel and torch.compile. Raises a UserError, which names the
    setting of the path, if the file has no weights.
    """
    if not Path(path).is_file():
        raise UserError(f"{setting}={path}: there is no such file")
    content = _read_content(path, setting)
    if not isinstance(content, Mapping):
        raise UserError(
            f"{setting}={path} holds no weights: it holds a {type(content).__name__}. {_HOW_TO_SAVE}"
        )
    if _is_state(content):
        return {_strip_wrappers(str(name)): value for name, value in content.items()}
    keys = [key for key in STATE_KEYS if _is_state(content.get(key))]
    if not keys:
        names = ", ".join(map(str, list(content)[:10]))
        raise UserError(
            f"{setting}={path} holds no weights that can be found: it has {names}. They should lie at its "
            f"top or under one of {', '.join(STATE_KEYS)}. {_HOW_TO_SAVE}"
        )
    if len(keys) > 1:
        log.warning("%s: of the weights %s, those of %s are used", path, ", ".join(keys), keys[0])
    state = content[keys[0]]
    return {_strip_wrappers(str(name)): value for name, value in state.items()}


def load_weights(
    network: "Module", state: Mapping[str, "Tensor"], source: str, ignore: Sequence[str] = ()
) -> None:
    """Loads weights into a network, whatever prefix their names share (Lightning's model., net.).

    Names that begin with one of `ignore` are left out. Raises a UserError that names `source` and the weights
    that do not fit.
    """
    expected = network.state_dict()
    state = {name: value for name, value in state.items() if not name.startswith(tuple(ignore))}
    if not expected.keys() <= state.keys():
        state = _strip_prefix(state, expected.keys())
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    different = [
        f"{name} is {list(state[name].shape)} there, {list(value.shape)} in the network"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = [f"size mismatch: {'; '.join(different[:3])}"] if different else []
    problems += [f"{len(missing)} weights are missing ({_list(missing)})"] if missing else []
    problems += [f"{len(extra)} weights are not in the network ({_list(extra)})"] if extra else []
    if problems:
        raise UserError(
            f"{source} does not hold the weights of {type(network).__name__}: {'. '.join(problems)}"
        )
    network.load_state_dict(dict(state))


def _read_content(path: str, setting: str) -> Any:
    """Returns the content of a file: a state dict, or a mapping with one in it."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        check_archive(path)
        with torch.serialization.safe_globals(list(_list_harmless_globals())):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if names := _find_pickled_code(path):
            raise UserError(
                f"{setting}={path} holds pickled code ({', '.join(names[:3])}), which is not run. Save its "
                "weights alone: "
                "torch.save(model.state_dict(), ...)"
            ) from error
        raise UserError(f"{setting}={path} is no file of weights: {first_line(error)}") from error


def check_archive(path: str) -> None:
    """Raises a ValueError for a damaged zip archive, which is torch's format; torch compares no checksums."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if name := archive.testzip():
                raise ValueError(f"it is damaged: {name} does not fit its checksum")


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message; its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _find_pickled_code(path: str) -> list[str]:
    """Returns the functions and classes that a file of torch would import; empty for other files."""
    import torch

    try:
        with torch.serialization.safe_globals(list(_list_harmless_globals())):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # files of other formats raise errors of many types
        return []


def _list_harmless_globals() -> Iterable[Any]:
    """Yields classes that are safe to unpickle: arguments of scripts, paths and numbers of numpy."""
    import numpy as np

    yield from (argparse.Namespace, types.SimpleNamespace, pathlib.PosixPath, pathlib.PurePosixPath)
    multiarray: Any = import_module("numpy._core.multiarray")  # where pickle finds the parts of arrays
    yield from (np.dtype, np.ndarray, multiarray.scalar, multiarray._reconstruct)
    yield from (
        type(np.dtype(kind))
        for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
    )


def _is_state(content: Any) -> bool:
    """Returns whether a value is a state dict."""
    import torch

    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(v, torch.Tensor) for v in content.values())
    )


def _strip_wrappers(name: str) -> str:
    for wrapper in WRAPPERS * 2:  # wrappers may be nested
        name = name.removeprefix(wrapper)
    return name


def _strip_prefix(state: Mapping[str, "Tensor"], expected: Iterable[str]) -> dict[str, "Tensor"]:
    """Returns the weights below the only prefix that has all expected names; without one, all."""
    names = list(expected)
    prefixes = {name.removesuffix(names[0]) for name in state if names and name.endswith(f".{names[0]}")}
    fitting = [prefix for prefix in prefixes if all(f"{prefix}{name}" in state for name in names)]
    if len(fitting) != 1:
        return dict(state)
    return {
        name.removeprefix(fitting[0]): value for name, value in state.items() if name.startswith(fitting[0])
    }


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
