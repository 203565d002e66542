"""The job that fetches the weights and the data set of a configuration, for runs without a network."""

import dataclasses
import logging
import re
import shutil
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from ..config import build
from ..context import JobContext
from ..dataset.huggingface import HuggingFace
from ..errors import UserError
from ..fields import WEIGHTS, marked_fields

log = logging.getLogger(__name__)

# configurations, vocabularies, tokenizers, chat templates
SETTINGS_FILES = (".json", ".txt", ".model", ".jinja")
# names of the weights that from_pretrained looks for, without a variant
WEIGHTS_STEMS = "model|pytorch_model|diffusion_pytorch_model|pytorch_lora_weights"
# endings of the weights, in the order in which from_pretrained prefers them
WEIGHTS_ENDINGS = (r"\.safetensors", r"-\d+-of-\d+\.safetensors", r"\.bin", r"-\d+-of-\d+\.bin")
GROUPS_OF_SEVERAL = ("validity", "model")
SKIPPED_GROUPS = ("job", "llm")  # the language model is a part of the editor


@dataclasses.dataclass(frozen=True)
class Download:
    """The files at an address.

    Attributes:
        files: How many files there are.
        size: Their size in bytes.
        missing: How many of these bytes are not on this machine.
        fetch: Fetches the files.
    """

    address: str
    files: int
    size: int
    missing: int
    fetch: Callable[[], Any]


def prefetch(context: JobContext, dry_run: bool = False) -> None:
    """Fetches all weights of a run and its data set of the Hugging Face hub; then it needs no network.

    Args:
        context: The configuration.
        dry_run: Whether to list the downloads only.

    Raises a UserError, before anything is fetched, when a download does not exist or the disk is too small.
    """
    downloads = _list_downloads(_build_parts(context.cfg))
    _show(downloads)
    missing = sum(download.missing for download in downloads)
    cache, free = _cache_and_free_space()
    sizes = f"To fetch: {_gigabytes(missing)}, into {cache} and the caches of torch and datasets"
    log.info("%s; free there: %s", sizes, _gigabytes(free))
    if dry_run:
        return
    if missing > free:
        raise UserError(
            f"{_gigabytes(missing)} do not fit into {cache}, where {_gigabytes(free)} are free: "
            "make room, or set HF_HOME to another disk"
        )
    for download in downloads:
        if download.missing:
            _fetch(download)
    log.info(
        "Everything is on this machine: the run needs no network (and asks for none with HF_HUB_OFFLINE=1)."
    )


def _build_parts(cfg: DictConfig) -> list[Any]:
    """Returns the back-ends of a configuration."""
    parts = []
    for group in cfg:
        block = cfg[group]
        if not isinstance(block, DictConfig) or group in SKIPPED_GROUPS:
            continue
        if group in GROUPS_OF_SEVERAL:
            parts += [build(option) for option in block.values()]
        elif "_target_" in block:
            parts.append(build(block))
    return parts


def _list_downloads(parts: Sequence[Any]) -> list[Download]:
    downloads = []
    for address, unused in dict(needs(parts)).items():
        look = partial(_look_at_url, address) if "://" in address else partial(_look_at_hub, address, unused)
        downloads.append(_look(address, look))
    for part in parts:
        if isinstance(part, HuggingFace) and not Path(part.path).exists():
            downloads.append(_look(part.path, partial(_look_at_data_set, part)))
    return downloads


def _show(downloads: Sequence[Download]) -> None:
    table = Table("what", "files", "size", "to fetch")
    for download in downloads:
        size, missing = _gigabytes(download.size), _gigabytes(download.missing)
        table.add_row(download.address, str(download.files), size, missing)
    table.add_section()
    totals = [sum(getattr(download, name) for download in downloads) for name in ("files", "size", "missing")]
    table.add_row("all", str(totals[0]), _gigabytes(totals[1]), _gigabytes(totals[2]))
    Console().print(table)


def _cache_and_free_space() -> tuple[Path, int]:
    """Returns the folder of the hub's files, and how many bytes are free there."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return cache, shutil.disk_usage(existing).free


def _fetch(download: Download) -> None:
    log.info("fetching %s, %s", download.address, _gigabytes(download.missing))
    try:
        download.fetch()
    except Exception as error:
        raise UserError(
            f"{download.address} could not be fetched: {_one_line(error)}. "
            "Finished downloads are kept: the same command continues from here"
        ) from error


def needs(part: Any) -> Iterator[tuple[str, Collection[str]]]:
    """Yields the addresses of everything that a back-end, and back-ends in it, download.

    Each address comes with the names of components that are not needed. An address is a hub id, a file on
    the hub (`<owner>/<repository>/<path>`) or a URL. A back-end lists its addresses in `downloads()`. Without
    that method they are the values of its fields hinted `Weights` that are not paths.
    """
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for member in part:
            yield from needs(member)
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.init}
    weights = {name: fields[name] for name in marked_fields(type(part), WEIGHTS) if fields.get(name)}
    # a pipeline does not load a component that is switched off or replaced by other weights
    unused = {name for name, value in fields.items() if value is False} | weights.keys()
    addresses = part.downloads() if hasattr(part, "downloads") else _texts(list(weights.values()))
    yield from ((address, unused) for address in addresses if not Path(address).exists())
    for value in fields.values():
        yield from needs(value)


def _texts(value: Any) -> Iterator[str]:
    for member in value.values() if isinstance(value, Mapping) else value:
        yield from [member] if isinstance(member, str) else _texts(member)


def _look(address: str, look: Callable[[], Download]) -> Download:
    """Returns the download of an address; raises a UserError if its size cannot be found."""
    try:
        return look()
    except UserError:
        raise
    except Exception as error:  # the HTTP libraries raise errors of many types
        raise UserError(
            f"{address} is not a path on this machine, and its size cannot be found: {_one_line(error)}. "
            "Prefetch needs a network"
        ) from error


def _look_at_url(url: str) -> Download:
    """Returns the download of a file that torch.hub keeps."""
    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if file.exists():
        size = file.stat().st_size
    else:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10) as response:
            size = int(response.headers["Content-Length"])
    fetch = partial(
        torch.hub.load_state_dict_from_url, url, map_location="cpu", check_hash=True, weights_only=True
    )
    return Download(url, 1, size, 0 if file.exists() else size, fetch)


def _look_at_hub(address: str, unused: Collection[str]) -> Download:
    """Returns the download of one file of a hub repository, or of all files that from_pretrained opens."""
    import huggingface_hub

    owner, repository_name, *path = address.split("/")
    repository, name = f"{owner}/{repository_name}", "/".join(path)
    about = huggingface_hub.model_info(repository, files_metadata=True, timeout=10)
    sizes = {file.rfilename: file.size or 0 for file in about.siblings or ()}
    if name and name not in sizes:
        raise UserError(f"{repository} has no file {name}; it has {', '.join(sorted(sizes))}")
    # diffusers loads weights from all folders of a pipeline, even folders that its index does not name
    is_pipeline = "model_index.json" in sizes
    folders = {file.partition("/")[0] for file in sizes if file.count("/") == 1} if is_pipeline else set()
    files = [name] if name else list_opened_files(list(sizes), ["", *sorted(folders - set(unused))])
    missing = sum(
        sizes[file]
        for file in files
        if not isinstance(huggingface_hub.try_to_load_from_cache(repository, file, revision=about.sha), str)
    )
    fetch = partial(huggingface_hub.snapshot_download, repository, allow_patterns=files)
    return Download(address, len(files), sum(sizes[file] for file in files), missing, fetch)


def _look_at_data_set(data: HuggingFace) -> Download:
    """Returns the download of a data set on the hub; opening the data set fetches it."""
    files = data.published()
    size = sum(files.values())
    return Download(f"{data.path} (data set)", len(files), size, size, data.samples)


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


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
