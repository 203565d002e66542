"""Opens weights, first a local copy, then from the hub; error messages say what is missing."""

import errno
import logging
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import NoWeights, UserError
from .needs import ENDINGS

if TYPE_CHECKING:
    import torch

DType = Literal["auto", "float32", "bfloat16", "float16"]

OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory")
ROOM = 2  # times the size of a network that is kept, which must be free for others
NOT_THERE = "does not have it, or keeps it private"
UNREACHABLE = "cannot be reached"

# diffusers imports bitsandbytes where it is installed, which warns of a package that only speeds up 4-bit
# weights on a CPU
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


_kept: dict[str, dict[Any, Any]] = {}
"""The networks that several back-ends use, by their weights and by how they were opened; see `sharing`."""


@contextmanager
def sharing(names: Collection[str]) -> Iterator[None]:
    """Opens the networks of these weights only once, and lets them go at the end.

    While other weights are in use, they wait in the memory of the machine. Where it has no room, and where
    their weights are quantised, they are opened again instead.
    """
    _kept.update({_locate(name): {} for name in names})
    try:
        yield
    finally:
        _kept.clear()


def load(kind: Any, name: str, instead: str, **options: Any) -> Any:
    """Returns `kind.from_pretrained(name, **options)`; never runs code of a repository.

    Cached files are opened without a request to the hub.

    Args:
        kind: A class of transformers or diffusers.
        name: A folder or a hub id.
        instead: The option that needs no download, which a message proposes.
        options: Go to `from_pretrained`.

    Raises:
        UserError: There is no such model (NoWeights), it is gated, a package is missing, or memory does not
            suffice.
    """
    from safetensors import SafetensorError

    _make_room()
    unusable = (OSError, ValueError, RuntimeError, ImportError, SafetensorError, MemoryError)
    # both, where both are imported: a pipeline of diffusers holds models of transformers
    for library in {"transformers", "diffusers"} & set(sys.modules):
        sys.modules[library].utils.logging.set_verbosity_error()
        sys.modules[library].utils.logging.disable_progress_bar()
    if kind.__module__.startswith("transformers"):
        options["trust_remote_code"] = False  # otherwise transformers asks on the terminal
    if kind.__name__.startswith("AutoModel"):  # with peft they look for adapters, in requests of their own
        options["adapter_kwargs"] = {"local_files_only": True}
    try:
        return kind.from_pretrained(name, local_files_only=True, **options)
    except unusable as error:
        if problem := _problem(name, error):
            raise problem from error
        if Path(name).exists():
            raise UserError(f"{name} is not a model that {kind.__name__} can open: {error}") from error
    ask_hub(name, name, "folder", instead)
    try:
        return kind.from_pretrained(name, **options)
    except Exception as error:  # the HTTP library depends on the version of huggingface_hub
        raise _problem(name, error) or _no_weights(name, "folder", instead, NOT_THERE, error) from error


def file(name: str, instead: str) -> Path:
    """Returns the path of a file; a file on the hub is fetched once.

    Args:
        name: A path, or <owner>/<repository>/<file> on the hub.
        instead: The option that needs no download, which a message proposes.

    Raises:
        UserError: There is no such file (NoWeights), or its repository is gated.
    """
    import huggingface_hub

    _make_room()
    if Path(name).is_file():
        return Path(name)
    *owner, path = name.split("/", 2)
    repository = "/".join(owner)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, path, local_files_only=True))
    except Exception:  # not in the cache, or no name that the hub can have
        pass
    ask_hub(repository, name, "file", instead)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, path))
    except Exception as error:  # as above
        raise _problem(repository, error) or _no_weights(name, "file", instead, NOT_THERE, error) from error


def network(
    kind: Any,
    name: str,
    instead: str,
    device: str,
    dtype: DType,
    quantization: dict[str, Any] | None = None,
) -> Any:
    """Returns a model of transformers on its device, for inference; see `load` and `placement`.

    Args:
        kind: An auto class of transformers.
        name: A folder or a hub id.
        instead: The option that needs no download, which a message proposes.
        device: See `placement`.
        dtype: See `placement`.
        quantization: A quantization_config of transformers, by which weights are quantised while they are
            loaded.

    Raises:
        UserError: As `load` does, and when the checkpoint lacks weights: transformers fills them with random
            numbers.
    """
    target, number_type = placement(device, dtype)
    kept = _kept.get(_locate(name)) if not quantization else None
    if kept and (kind, number_type) in kept:
        model = kept[kind, number_type]
    else:
        model = _open(kind, name, instead, target, number_type, quantization)
    if quantization:
        return model.eval()
    try:
        model = model.to(target).eval()
    except RuntimeError as error:
        raise _problem(name, error) or error from error
    if kept is not None:
        kept[kind, number_type] = model
    return model


def _open(
    kind: Any,
    name: str,
    instead: str,
    target: str,
    number_type: "torch.dtype",
    quantization: dict[str, Any] | None,
) -> Any:
    """Returns a model of transformers; raises a UserError when the checkpoint lacks weights."""
    options: dict[str, Any] = {"dtype": number_type, "output_loading_info": True}
    if quantization:
        options |= {"quantization_config": quantization, "device_map": {"": target}}
    model, info = load(kind, name, instead, **options)
    if missing := sorted(set(info["missing_keys"]) - _unused_keys(model, info["missing_keys"])):
        raise UserError(
            f"{name} was not trained for this task: "
            f"it lacks weights of {type(model).__name__} ({', '.join(missing[:3])}, ...)"
        )
    return model


def _locate(name: str) -> str:
    """Returns the path of a folder, or a hub id as it is."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def _make_room() -> None:
    """Moves the networks that are kept out of the GPU, and lets those go for which there is no room."""
    if not any(_kept.values()):
        return
    import psutil  # type: ignore[import-untyped]
    import torch

    for kept in _kept.values():
        for opened, model in list(kept.items()):
            if psutil.virtual_memory().available < ROOM * model.get_memory_footprint():
                del kept[opened]
            elif model.device.type == "cuda":
                model.to("cpu")
                torch.cuda.empty_cache()


def placement(device: str, dtype: DType) -> "tuple[str, torch.dtype]":
    """Returns the device and the number type for two settings.

    A device of "auto" is the GPU if there is one. A type of "auto" is bfloat16 if the device supports it, and
    otherwise float16 on a GPU (T4, V100) and float32 on a CPU, because emulated bfloat16 is very slow.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype != "auto":
        return device, getattr(torch, dtype)
    if device.startswith("cuda"):
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return device, torch.bfloat16 if has_bfloat16 else torch.float16
    has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device, torch.bfloat16 if has_bfloat16 else torch.float32


def is_on_cpu(device: str) -> bool:
    """Returns whether a setting of the device stands for the CPU."""
    return placement(device, "float32")[0].startswith("cpu")


def _unused_keys(model: Any, missing: Any) -> set[str]:
    """Returns the missing keys that the class of a part of the model lists as unnecessary.

    transformers reads this list of the whole model, and not every version reads it of its parts: checkpoints
    of Mask2Former that were saved before version 5.10 lack a norm of the Swin backbone that is not used.
    """
    unused = set()
    for prefix, module in model.named_modules():
        for pattern in getattr(module, "_keys_to_ignore_on_load_missing", None) or ():
            start = f"{prefix}." if prefix else ""
            unused |= {
                k for k in missing if k.startswith(start) and re.search(pattern, k.removeprefix(start))
            }
    return unused


def _problem(name: str, error: BaseException) -> UserError | None:
    """Returns a message for errors other than a missing model: a package, access, memory, the disk."""
    from huggingface_hub.errors import GatedRepoError

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, GatedRepoError) or "gated repo" in str(cause):
            return UserError(
                f"{name} is gated: accept its conditions at https://huggingface.co/{name}, "
                "then log in on this machine with `hf auth login` (or set HF_TOKEN)"
            )
        if isinstance(cause, MemoryError) or OUT_OF_MEMORY.search(str(cause)):
            return UserError(
                f"The memory does not suffice for {name}: {_first_line(cause)}. Take a smaller model, "
                "or set dtype=float16, quantization or offload where its option has them"
            )
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return UserError(
                f"The disk is full while {name} is fetched: make room, or set HF_HOME to another disk"
            )
    for cause in causes:
        if isinstance(cause, ImportError):
            return UserError(f"{name} needs a package that is not installed: {' '.join(str(cause).split())}")
        if "trust_remote_code" in str(cause):
            return UserError(f"{name} needs code from its repository, which is never run: take another model")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__


def ask_hub(repository: str, name: str, what: str, instead: str) -> None:
    """Raises a UserError when the hub does not have a repository, refuses it or cannot be reached.

    Asks only once; the libraries would retry for two minutes. Never asks for what can only be a path.
    """
    if re.match(r"[/~.]|\w:|.*\\", name) or (name.count("/") < 2 and Path(name).suffix in ENDINGS):
        raise UserError(f"No weights for '{name}': it is no {what} on this machine; {instead} needs none")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        if huggingface_hub.model_info(repository, timeout=10).gated:
            huggingface_hub.auth_check(repository)
    except (HfHubHTTPError, HFValidationError) as error:
        raise _problem(repository, error) or _no_weights(name, what, instead, NOT_THERE, error) from error
    except Exception as error:  # the HTTP library depends on the version of huggingface_hub
        raise _no_weights(name, what, instead, UNREACHABLE, error) from error


def _no_weights(name: str, what: str, instead: str, reason: str, error: Exception) -> NoWeights:
    from huggingface_hub.constants import HF_HUB_CACHE

    return NoWeights(
        f"No weights for '{name}': it is no {what} on this machine, "
        f"{HF_HUB_CACHE} does not hold it (or not all of it), and the Hugging Face hub {reason}.\n"
        f"Give the path of a {what}, or fetch it while there is a network (job=prefetch), "
        f"or use what needs no download: {instead}.\n"
        f"({_first_line(error)})",
        f"No weights for '{name}': they are not on this machine, and the Hugging Face hub {reason}",
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
