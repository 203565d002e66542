"""Opens weights: the local copy first, the hub where it can be reached, and plain words where there is neither."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UserError

if TYPE_CHECKING:
    import torch

DType = Literal["auto", "float32", "bfloat16", "float16"]


def load(kind: Any, name: str, instead: str, **options: Any) -> Any:
    """Returns `kind.from_pretrained(name, **options)`; `kind` is a class of transformers or diffusers.

    `name` is a folder or a hub id. What the hub's cache already holds is opened without asking the hub.
    Raises a UserError when there is no such model to open; it proposes the option `instead`, which needs no download.
    """
    library = sys.modules[kind.__module__.split(".")[0]]
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    try:
        return kind.from_pretrained(name, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        if Path(name).exists():
            raise UserError(f"{name} is not a model that {library.__name__} can open: {error}") from error
    try:
        return kind.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No weights for '{name}': it is no folder on this machine, and the Hugging Face hub does not have it or cannot be reached.\n"
            f"Give the path of a folder, or connect once so that the model is kept, or use what needs no download: {instead}.\n"
            f"({str(error).splitlines()[0]})"
        ) from error


def placement(device: str, dtype: DType) -> "tuple[str, torch.dtype]":
    """Returns the device and the type of number that two settings stand for.

    "auto" is the GPU where there is one, and bfloat16 where the device computes in it, which halves the time; a processor
    that has to emulate it takes many times as long as in float32.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype != "auto":
        return device, getattr(torch, dtype)
    fast = torch.cuda.is_bf16_supported() if device.startswith("cuda") else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device, torch.bfloat16 if fast else torch.float32
