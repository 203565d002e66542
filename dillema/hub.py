"""Opens weights: the local copy first, the hub where it can be reached, and plain words where there is neither."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import NoWeights, UserError

if TYPE_CHECKING:
    import torch

DType = Literal["auto", "float32", "bfloat16", "float16"]

# diffusers imports bitsandbytes where it is installed, whose one warning here asks for a package that only speeds up 4-bit weights on a CPU
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def load(kind: Any, name: str, instead: str, **options: Any) -> Any:
    """Returns `kind.from_pretrained(name, **options)`; `kind` is a class of transformers or diffusers.

    `name` is a folder or a hub id. What the hub's cache already holds is opened without asking the hub.
    Raises a UserError (NoWeights) when there is no such model to open; it proposes the option `instead`, which needs no download.
    """
    import huggingface_hub
    from safetensors import SafetensorError

    unusable = (OSError, ValueError, RuntimeError, ImportError, SafetensorError)
    for library in {"transformers", "diffusers"} & set(sys.modules):  # a pipeline of diffusers holds models of transformers
        sys.modules[library].utils.logging.set_verbosity_error()
        sys.modules[library].utils.logging.disable_progress_bar()
    try:
        return kind.from_pretrained(name, local_files_only=True, **options)
    except unusable as error:
        if Path(name).exists():
            raise UserError(f"{name} is not a model that {kind.__name__} can open: {error}") from error
    try:
        huggingface_hub.model_info(name, timeout=10)  # asks once; from_pretrained would try again and again for two minutes
        return kind.from_pretrained(name, **options)
    except Exception as error:  # without a network, whatever the HTTP library of this version of huggingface_hub raises
        raise _absent(name, "folder", instead, error) from error


def file(name: str, instead: str) -> Path:
    """Returns where a file lies: `name` is its path, or <owner>/<repository>/<file> on the hub, from where it is fetched once.

    Raises a UserError (NoWeights) when there is no such file; it proposes the option `instead`, which needs no download.
    """
    import huggingface_hub

    if Path(name).is_file():
        return Path(name)
    *owner, path = name.split("/", 2)
    repository = "/".join(owner)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, path, local_files_only=True))
    except Exception:  # not kept yet, or no name that the hub could know
        pass
    try:
        huggingface_hub.model_info(repository, timeout=10)  # asks once, as above
        return Path(huggingface_hub.hf_hub_download(repository, path))
    except Exception as error:  # as above
        raise _absent(name, "file", instead, error) from error


def _absent(name: str, what: str, instead: str, error: Exception) -> NoWeights:
    from huggingface_hub.constants import HF_HUB_CACHE

    return NoWeights(
        f"No weights for '{name}': it is no {what} on this machine, {HF_HUB_CACHE} does not hold it (or not all of it), and the Hugging Face hub "
        f"does not have it or cannot be reached.\n"
        f"Give the path of a {what}, or fetch it while there is a network (job=prefetch), or use what needs no download: {instead}.\n"
        f"({str(error).splitlines()[0]})"
    )


def network(kind: Any, name: str, instead: str, device: str, dtype: DType, quantization: dict[str, Any] | None = None) -> Any:
    """Returns a model of transformers on its device, for inference; see `load` and `placement`.

    `quantization` is a quantization_config of transformers, by which weights are quantised while they are loaded.
    Raises a UserError, too, when the checkpoint lacks weights: transformers would fill them with random numbers.
    """
    where, numbers = placement(device, dtype)
    options = {"quantization_config": quantization, "device_map": {"": where}} if quantization else {}
    model, found = load(kind, name, instead, dtype=numbers, output_loading_info=True, **options)
    if found["missing_keys"]:
        lacking = ", ".join(sorted(found["missing_keys"])[:3])
        raise UserError(f"{name} was not trained for this task: it lacks weights of {type(model).__name__} ({lacking}, ...)")
    return model.eval() if quantization else model.to(where).eval()


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
