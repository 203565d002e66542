"""Finds the files that a back-end opens, here or on the hub: their sizes, and how to fetch them."""

import re
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .errors import UserError
from .needs import Need

# configurations, vocabularies, tokenizers, chat templates
SETTINGS_FILES = (".json", ".txt", ".model", ".jinja")
# names of the weights that from_pretrained looks for, without a variant
WEIGHTS_STEMS = "model|pytorch_model|diffusion_pytorch_model|pytorch_lora_weights"
# endings of the weights, in the order in which from_pretrained prefers them
WEIGHTS_ENDINGS = (r"\.safetensors", r"-\d+-of-\d+\.safetensors", r"\.bin", r"-\d+-of-\d+\.bin")
TIMEOUT = 10  # seconds, for an answer about sizes


@dataclass(frozen=True)
class Download:
    """The files at an address.

    Attributes:
        sizes: The size of each file in bytes, by its name in the repository or folder.
        missing: How many of these bytes are not on this machine.
        fetch: Fetches the files.
        paths: Where the files are on this machine, those that are.
        parameters: How many parameters there are of each number type ("F16", ...), where the hub says so.
    """

    address: str
    sizes: Mapping[str, int]
    missing: int
    fetch: Callable[[], Any]
    paths: Mapping[str, Path] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """Returns how many files there are."""
        return len(self.sizes)

    @property
    def size(self) -> int:
        """Returns the size of all files in bytes."""
        return sum(self.sizes.values())


def look_up(need: Need) -> Download:
    """Returns the download of something that a back-end opens; asks the hub only for what is not here.

    Raises a UserError if it is neither here nor there, is gated, or if the hub cannot be reached.
    """
    if need.is_local:
        return look_at_path(need)
    with size_errors(need.address):
        if "://" in need.address:
            return look_at_url(need.address)
        return look_at_hub(need.address, need.unused)


@contextmanager
def size_errors(address: str) -> Iterator[None]:
    """Turns whatever asking for sizes raises into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the HTTP libraries raise errors of many types
        reason = one_line(error).rstrip(".")
        raise UserError(
            f"{address} is not a path on this machine, and its size cannot be found: {reason}. "
            "Prefetch needs a network"
        ) from error


def look_at_path(need: Need) -> Download:
    """Returns the files of a folder that from_pretrained opens, or a file; nothing is missing."""
    path = Path(need.address)
    if path.is_file():
        return Download(need.address, {path.name: path.stat().st_size}, 0, lambda: None, {path.name: path})
    paths = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    opened = {name: paths[name] for name in list_components(list(paths), need.unused)}
    sizes = {name: file.stat().st_size for name, file in opened.items()}
    return Download(need.address, sizes, 0, lambda: None, opened)


def look_at_url(url: str) -> Download:
    """Returns the download of a file that torch.hub keeps."""
    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if file.exists():
        size = file.stat().st_size
    else:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            size = int(response.headers["Content-Length"])
    fetch = partial(
        torch.hub.load_state_dict_from_url, url, map_location="cpu", check_hash=True, weights_only=True
    )
    paths = {file.name: file} if file.exists() else {}
    return Download(url, {file.name: size}, 0 if paths else size, fetch, paths)


def look_at_hub(address: str, unused: Collection[str]) -> Download:
    """Returns the download of one file of a hub repository, or of all files that from_pretrained opens."""
    import huggingface_hub

    repository, name = split_address(address)
    about = huggingface_hub.model_info(repository, files_metadata=True, timeout=TIMEOUT)
    sizes = {file.rfilename: file.size or 0 for file in about.siblings or ()}
    if name and name not in sizes:
        raise UserError(f"{repository} has no file {name}; it has {', '.join(sorted(sizes))}")
    names = [name] if name else list_components(list(sizes), unused)
    cached = {
        file: huggingface_hub.try_to_load_from_cache(repository, file, revision=about.sha) for file in names
    }
    paths = {file: Path(path) for file, path in cached.items() if isinstance(path, str)}
    return Download(
        address,
        {file: sizes[file] for file in names},
        sum(sizes[file] for file in names if file not in paths),
        partial(huggingface_hub.snapshot_download, repository, allow_patterns=names),
        paths,
        getattr(about.safetensors, "parameters", None) or {},
    )


def look_in_cache(need: Need) -> Download | None:
    """Returns the files of the hub's cache, without a request; None if the weights are not all there."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, name = split_address(need.address)
    try:
        if name:
            path = Path(huggingface_hub.hf_hub_download(repository, name, local_files_only=True))
            return Download(need.address, {name: path.stat().st_size}, 0, lambda: None, {name: path})
        folder = huggingface_hub.snapshot_download(repository, local_files_only=True)
    except (LocalEntryNotFoundError, ValueError, OSError):  # not there, or no name that the hub can have
        return None
    found = look_at_path(Need(need.setting, folder, need.unused))
    has_weights = any(re.search(r"\.(safetensors|bin)$", file) for file in found.sizes)
    return found if has_weights else None


def split_address(address: str) -> tuple[str, str]:
    """Returns the repository of an address on the hub, and the path of a file in it ("": all files)."""
    owner, _, rest = address.partition("/")
    repository, _, name = rest.partition("/")
    return f"{owner}/{repository}", name


def list_components(files: Sequence[str], unused: Collection[str]) -> list[str]:
    """Returns the files of a repository that from_pretrained opens, those of all components of a pipeline.

    diffusers loads weights from all folders of a pipeline, even folders that its index does not name.
    """
    is_pipeline = "model_index.json" in files
    folders = {file.partition("/")[0] for file in files if file.count("/") == 1} if is_pipeline else set()
    return list_opened_files(files, ["", *sorted(folders - set(unused))])


def list_opened_files(files: Sequence[str], components: Sequence[str]) -> list[str]:
    """Returns the files of a repository that from_pretrained opens.

    `components` are the folders that it reads ("" is the root). In each folder it opens the settings and one
    set of weights: safetensors rather than .bin, one file rather than shards.
    """
    chosen: list[str] = []
    for component in components:
        inside = {file.rpartition("/")[2]: file for file in files if file.rpartition("/")[0] == component}
        chosen += [file for name, file in inside.items() if name.endswith(SETTINGS_FILES)]
        sets = (
            [file for name, file in inside.items() if re.fullmatch(rf"({WEIGHTS_STEMS}){ending}", name)]
            for ending in WEIGHTS_ENDINGS
        )
        chosen += next(filter(None, sets), [])
    return chosen + [file for file in files if file.startswith("additional_chat_templates/")]


def gigabytes(size: float) -> str:
    """Returns a size in bytes as text."""
    return f"{size / 1e9:.2f} GB"


def one_line(error: Exception) -> str:
    """Returns the message of an error in one line."""
    return " ".join(str(error).split())
