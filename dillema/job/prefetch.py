"""The job that fetches the weights and the data set of a configuration, for runs without a network."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from ..config import build
from ..context import JobContext
from ..dataset.huggingface import HuggingFace
from ..downloads import Download, gigabytes, look_in_cache, look_up, one_line, size_errors
from ..errors import UserError
from ..memory import StageMemory, free_memory, measure_stages
from ..needs import Need, build_parts, list_needs

log = logging.getLogger(__name__)


def prefetch(context: JobContext, dry_run: bool = False) -> None:
    """Fetches all weights of a run and its data set of the Hugging Face hub; then it needs no network.

    Args:
        context: The configuration.
        dry_run: Whether to list the downloads only.

    Raises a UserError, before anything is fetched, when a download does not exist or the disk is too small.
    """
    downloads, stages = _list_downloads(context.cfg)
    _show(downloads)
    _show_memory(stages)
    missing = sum(download.missing for download in downloads)
    cache, free = _cache_and_free_space()
    sizes = f"To fetch: {gigabytes(missing)}, into {cache} and the caches of torch and datasets"
    log.info("%s; free there: %s", sizes, gigabytes(free))
    if dry_run:
        return
    if missing > free:
        raise UserError(
            f"{gigabytes(missing)} do not fit into {cache}, where {gigabytes(free)} are free: "
            "make room, or set HF_HOME to another disk"
        )
    for download in downloads:
        if download.missing:
            _fetch(download)
    log.info(
        "Everything is on this machine: the run needs no network (and asks for none with HF_HUB_OFFLINE=1)."
    )


def _list_downloads(cfg: DictConfig) -> tuple[list[Download], list[StageMemory]]:
    """Returns what is downloaded, and the memory of each stage that has weights."""
    found = list(_look_up([need for need in list_needs(build_parts(cfg)) if not need.is_text]))
    downloads = [download for need, download in found if not need.is_local]
    data = build(cfg.dataset) if "dataset" in cfg else None
    if isinstance(data, HuggingFace) and not Path(data.path).exists():
        downloads.append(_look_at_data_set(data))
    return downloads, measure_stages(found)


def _look_up(needs: Sequence[Need]) -> Iterator[tuple[Need, Download]]:
    """Yields the download of each need; the error of the first that fails names the others that lack weights.

    They are looked for on this machine only: without a network, each request would wait in vain.
    """
    for i, need in enumerate(needs):
        try:
            yield need, look_up(need)
        except UserError as error:
            hub_ids = [other for other in needs[i + 1 :] if not other.is_local and "://" not in other.address]
            lacking = [other.address for other in hub_ids if look_in_cache(other) is None]
            also = f". Not on this machine either: {', '.join(lacking)}" if lacking else ""
            raise UserError(f"{error}{also}") from error


def _show(downloads: Sequence[Download]) -> None:
    if not downloads:
        log.info("No option of this run needs a download.")
        return
    table = Table("what", "files", "size", "to fetch")
    for download in downloads:
        size, missing = gigabytes(download.size), gigabytes(download.missing)
        table.add_row(download.address, str(download.files), size, missing)
    table.add_section()
    totals = [sum(getattr(download, name) for download in downloads) for name in ("files", "size", "missing")]
    table.add_row("all", str(totals[0]), gigabytes(totals[1]), gigabytes(totals[2]))
    Console().print(table)


def _show_memory(stages: Sequence[StageMemory]) -> None:
    table = Table("stage", "device", "weights", "in use, about", "free there")
    for stage in stages:
        sizes = [gigabytes(size) for size in (stage.size, stage.likely, free_memory(stage.device))]
        table.add_row(stage.stage, stage.device, *sizes)
    Console().print(table)
    log.info(
        "One stage is in memory at a time. Weights: all networks of the stage; those of a language model "
        "with its cache of keys and values. In use: roughly, with activations"
    )


def _cache_and_free_space() -> tuple[Path, int]:
    """Returns the folder of the hub's files, and how many bytes are free there."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return cache, shutil.disk_usage(existing).free


def _fetch(download: Download) -> None:
    log.info("fetching %s, %s", download.address, gigabytes(download.missing))
    try:
        download.fetch()
    except Exception as error:
        raise UserError(
            f"{download.address} could not be fetched: {one_line(error)}. "
            "Finished downloads are kept: the same command continues from here"
        ) from error


def _look_at_data_set(data: HuggingFace) -> Download:
    """Returns the download of a data set on the hub; opening the data set fetches it."""
    with size_errors(data.path):
        files = data.published()
    return Download(f"{data.path} (data set)", files, sum(files.values()), data.samples)
