"""The job before going offline: fetches the weights and the data set that a configuration needs, and says first what that costs."""

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
from ..dataset.huggingface import HuggingFace
from ..errors import UserError

log = logging.getLogger(__name__)

SETTINGS = (".json", ".txt", ".model", ".jinja")  # configurations, vocabularies, tokenizers, chat templates
STEMS = "model|pytorch_model|diffusion_pytorch_model|pytorch_lora_weights"  # what from_pretrained looks for, without a variant
RESTS = (r"\.safetensors", r"-\d+-of-\d+\.safetensors", r"\.bin", r"-\d+-of-\d+\.bin")  # what it prefers first


@dataclasses.dataclass(frozen=True)
class Download:
    """What lies behind an address: the number of files, their bytes, those bytes that are not on this machine, and what fetches them."""

    address: str
    files: int
    size: int
    missing: int
    fetch: Callable[[], Any]


def prefetch(cfg: DictConfig, dry_run: bool = False) -> None:
    """Fetches all that a run of a configuration loads from elsewhere, unless it is a dry run; afterwards the run needs no network.

    That is all weights, and a data set of the Hugging Face hub.

    Raises a UserError when one of them cannot be had, before any is fetched, and when they do not fit on the disk.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    groups = [group for group in cfg if group not in ("job", "llm", "model") and "_target_" in (cfg[group] if isinstance(cfg[group], DictConfig) else ())]
    parts = [build(cfg[group]) for group in groups] + [build(block) for block in cfg.model.values()]  # the prompt holds the language model
    downloads = [_plan(address, partial(_of_url, address) if "://" in address else partial(_of_hub, address, w)) for address, w in dict(needs(parts)).items()]
    downloads += [_plan(data.path, partial(_of_data_set, data)) for data in parts if isinstance(data, HuggingFace) and not Path(data.path).exists()]
    table = Table("what", "files", "size", "to fetch")
    for one in downloads:
        table.add_row(one.address, str(one.files), _gigabytes(one.size), _gigabytes(one.missing))
    missing = sum(one.missing for one in downloads)
    table.add_section()
    table.add_row("all", str(sum(one.files for one in downloads)), _gigabytes(sum(one.size for one in downloads)), _gigabytes(missing))
    Console().print(table)
    folder = Path(HF_HUB_CACHE)
    free = shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.exists())).free
    log.info("To fetch: %s, into %s and its like of torch and datasets; free there: %s", _gigabytes(missing), folder, _gigabytes(free))
    if dry_run:
        return
    if missing > free:
        raise UserError(f"{_gigabytes(missing)} do not fit into {folder}, where {_gigabytes(free)} are free: make room, or set HF_HOME to another disk")
    for one in downloads:
        if one.missing:
            log.info("fetching %s, %s", one.address, _gigabytes(one.missing))
            try:
                one.fetch()
            except Exception as error:
                raise UserError(f"{one.address} could not be fetched: {_words(error)}. What is finished is kept: the same command goes on from here") from error
    log.info("All is on this machine: the run needs no network (and asks for none with HF_HUB_OFFLINE=1).")


def needs(part: Any) -> Iterator[tuple[str, Collection[str]]]:
    """Yields the addresses of what a back-end, and those within it, load from elsewhere, each with the components that it does without.

    An address is a hub id, a file on the hub (`<owner>/<repository>/<path>`) or a URL. A back-end names them in `downloads()`; for
    one without that method, they are the values of its fields in `weights` that are no paths.
    """
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for one in part:
            yield from needs(one)
    if not dataclasses.is_dataclass(part):
        return
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    named = {name: fields[name] for name in getattr(part, "weights", ()) if fields[name]}
    # a pipeline does not load a component that is switched off, or that other weights stand in for
    without = {name for name, value in fields.items() if value is False} | named.keys()
    found = part.downloads() if hasattr(part, "downloads") else _texts(list(named.values()))
    yield from ((address, without) for address in found if not Path(address).exists())
    for value in fields.values():
        yield from needs(value)


def _texts(value: Any) -> Iterator[str]:
    for one in value.values() if isinstance(value, Mapping) else value:
        yield from [one] if isinstance(one, str) else _texts(one)


def _plan(address: str, look: Callable[[], Download]) -> Download:
    try:
        return look()
    except UserError:
        raise
    except Exception as error:  # whatever the HTTP libraries raise
        raise UserError(f"{address} is no path on this machine, and its size cannot be asked for: {_words(error)}. Prefetch needs a network") from error


def _of_url(url: str) -> Download:
    """Returns a file that torch.hub keeps."""
    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if file.exists():
        size = file.stat().st_size
    else:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10) as response:
            size = int(response.headers["Content-Length"])
    missing = 0 if file.exists() else size
    return Download(url, 1, size, missing, lambda: torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True))


def _of_hub(address: str, without: Collection[str]) -> Download:
    """Returns one file of a repository of the Hugging Face hub, or those of its files that from_pretrained opens."""
    import huggingface_hub

    repository, name = "/".join(address.split("/")[:2]), "/".join(address.split("/")[2:])
    about = huggingface_hub.model_info(repository, files_metadata=True, timeout=10)
    sizes = {file.rfilename: file.size or 0 for file in about.siblings or ()}
    if name and name not in sizes:
        raise UserError(f"{repository} holds no {name}, but {', '.join(sorted(sizes))}")
    # diffusers asks for the weights in all folders of a pipeline, those that its index does not name too
    folders = {file.partition("/")[0] for file in sizes if file.count("/") == 1} if "model_index.json" in sizes else set()
    files = [name] if name else opened(list(sizes), ["", *sorted(folders - set(without))])
    missing = sum(sizes[file] for file in files if not isinstance(huggingface_hub.try_to_load_from_cache(repository, file, revision=about.sha), str))
    return Download(address, len(files), sum(map(sizes.get, files)), missing, lambda: huggingface_hub.snapshot_download(repository, allow_patterns=files))  # type: ignore[arg-type]


def _of_data_set(data: HuggingFace) -> Download:
    """Returns the files of a data set on the hub; opening it fetches them, and leaves what a run opens later."""
    files = data.published()
    return Download(f"{data.path} (data set)", len(files), sum(files.values()), sum(files.values()), data.samples)


def opened(files: Sequence[str], components: Sequence[str]) -> list[str]:
    """Returns those of a repository's files that from_pretrained opens in the folders of the given components ("" is the root).

    In each folder these are the settings and one set of weights: safetensors rather than .bin, one file rather than shards.
    """
    kept: list[str] = []
    for component in components:
        inside = {file.rpartition("/")[2]: file for file in files if file.rpartition("/")[0] == component}
        kept += [file for name, file in inside.items() if name.endswith(SETTINGS)]
        sets = ([file for name, file in inside.items() if re.fullmatch(rf"({STEMS}){rest}", name)] for rest in RESTS)
        kept += next(filter(None, sets), [])
    return kept + [file for file in files if file.startswith("additional_chat_templates/")]


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _words(error: Exception) -> str:
    return " ".join(str(error).split())
