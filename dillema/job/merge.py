"""The job that joins the shards of a run."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .. import report
from ..config import build
from ..context import JobContext
from ..errors import UserError
from ..files import link
from ..joining import join_lines, join_predictions
from ..overrides import typed_overrides
from ..passwords import hide_passwords_in_files
from ..record_log import is_remote
from ..run_folder import METADATA, PREDICTIONS, Labels, RunFolder
from ..run_writer import CARD_NAME, clear_run, write_card, write_failures
from ..runner import Runner
from ..store import Store
from ..tracking.run import track
from .figures import compute_figures, describe_distance, measure_distance
from .links import point_latest
from .shard import ShardResults, open_shards
from .summary import show

log = logging.getLogger(__name__)

OWN_SETTINGS = ("name", "store", "tracking", "max_failures")  # those of the merge, not of the shards

IMAGE_FOLDERS = ("generated", "placebo", "originals", "controls")

Shards = Sequence[tuple[Path, ShardResults]]


def merge(context: JobContext, runs: Sequence[str], stores: Sequence[str] | None = None) -> RunFolder:
    """Joins the shards of a run to the run that one machine would have made; returns its folder.

    Needs no data, and models only to compare sets of images. Its name, store, tracking and `max_failures` are
    those of the configuration; everything else is that of the shards.

    Args:
        context: Its folder receives the run.
        runs: The folders of the shards, or folders that hold them.
        stores: Stores that are joined into the store of the configuration; None for those of the shards.

    Raises a UserError unless every shard is there once and all are of one run.
    """
    shards = open_shards(runs)
    run_context = _restore_context(context, shards)
    store = Store(run_context.cfg.store)
    _join_stores(store, _list_stores(shards, store) if stores is None else stores)
    with track(run_context) as tracked_run:
        folder = _join(run_context, shards, store)
        report.write(folder)
        tracked_run.log(folder)
    show(folder)
    if tracked_run.address:
        log.info("MLflow:  %s", tracked_run.address)
    point_latest(context.folder)
    return folder


def _restore_context(context: JobContext, shards: Shards) -> JobContext:
    """Returns the context of the run that the shards are parts of, and writes its settings to the folder."""
    settings = RunFolder(shards[0][0]).settings
    cfg = OmegaConf.create(dict(settings.config) or OmegaConf.to_container(context.cfg))
    assert isinstance(cfg, DictConfig)
    for name in OWN_SETTINGS:
        if name in context.cfg:
            cfg[name] = context.cfg[name]
    cfg["shard"] = None
    given = [
        override
        for override in typed_overrides(settings.overrides)
        if override.partition("=")[0].lstrip("+~") not in ("shard", "store", "name")
    ]
    own = [
        override
        for override in typed_overrides(context.overrides)
        if override.partition("=")[0].lstrip("+~").partition(".")[0] in OWN_SETTINGS
    ]
    overrides = [*given, *own]
    target = context.folder / ".hydra"
    if settings.config:
        target.mkdir(exist_ok=True)
        OmegaConf.save(cfg, target / "config.yaml")
        OmegaConf.save(OmegaConf.create(overrides), target / "overrides.yaml")
        shutil.copyfile(shards[0][0] / ".hydra" / "hydra.yaml", target / "hydra.yaml")
        hide_passwords_in_files(target.glob("*.yaml"))
    return replace(context, cfg=cfg, overrides=tuple(overrides), options=settings.options)


def _list_stores(shards: Shards, store: Store) -> list[str]:
    """Returns the stores of the shards, without the one into which they are joined."""
    addresses = dict.fromkeys(results.store for _, results in shards)
    return [address for address in addresses if address != store.address]


def _join_stores(store: Store, addresses: Iterable[str]) -> None:
    for folder in addresses:
        if not is_remote(folder) and not Path(folder, "records.db").exists():
            raise UserError(
                f"the store {folder} is not here. Name the stores of the shards with job.stores=[...], or "
                "set job.stores=[]: the run is joined all the same, and only finished work is not"
            )
        count = store.join(folder)
        log.info("%s: %d records of %s", store.address, count, folder)


def _join(context: JobContext, shards: Shards, store: Store) -> RunFolder:
    """Writes everything but the page."""
    path, first = context.folder, shards[0][1]
    folder = RunFolder(path)
    failures = [failure for shard, _ in shards for failure in RunFolder(shard).failures()]
    _check_failures(failures, shards, context.cfg.max_failures)
    clear_run(path)
    for shard, _ in shards:
        for part in IMAGE_FOLDERS:
            if (shard / part).is_dir():
                shutil.copytree(shard / part, path / part, copy_function=_link_image, dirs_exist_ok=True)
    for part in ("generated", "placebo"):
        join_lines([shard / part / METADATA for shard, _ in shards], path / part / METADATA)
    labels = Labels.read(first.run)
    join_predictions([shard / PREDICTIONS for shard, _ in shards], path / PREDICTIONS, labels)
    write_card(folder, labels)
    write_failures(path, failures, max((list(results.seconds) for _, results in shards), key=len))
    results = first.run | {
        "name": context.name,
        "counts": _sum(results.counts for _, results in shards) | {"failed": len(failures)},
        "seconds": {
            name: round(seconds, 3)
            for name, seconds in _sum(results.seconds for _, results in shards).items()
        },
        "wall_seconds": round(sum(results.wall_seconds for _, results in shards), 3),
        "plan": _sum_plans(results.plan for _, results in shards),
        "distance": _compare_sets(context, shards, store),
        "reference": None,  # shards have none
    }
    folder.write_results(results | compute_figures(folder, results, first.models))
    return folder


def _link_image(source: str, target: str) -> None:
    """Links a file of a shard, unless it is one that is joined instead."""
    if Path(source).name not in (METADATA, CARD_NAME):
        link(Path(source), Path(target))


def _check_failures(failures: Sequence[Mapping[str, str]], shards: Shards, max_failures: int) -> None:
    """Raises a UserError where a run on one machine would have stopped."""
    if len(failures) > max_failures:
        raise UserError(
            f"{len(failures)} items of the shards have failed, and max_failures={max_failures} are "
            "allowed in a run. Repeat the shards with retry_failed=true once the cause is removed, or join "
            f"them with max_failures={len(failures)}"
        )
    items = _sum(results.items for _, results in shards)
    failed = Counter(failure["step"] for failure in failures)
    for step, count in failed.items():
        if count == items.get(step):
            message, _ = Counter(f["message"] for f in failures if f["step"] == step).most_common(1)[0]
            raise UserError(
                f"all {count} items of the step {step} failed, most often because: {message}. "
                "Repeat the shards with retry_failed=true once the cause is removed"
            )


def _compare_sets(context: JobContext, shards: Shards, store: Store) -> dict[str, Any] | None:
    """Returns the distances of the set of valid images, as a run measures them at its end."""
    if not context.cfg.get("quality"):
        return None
    quality = build(context.cfg.quality)
    keys = {source: key for _, results in shards for source, key in results.source_keys.items()}
    item = describe_distance(
        (image.id, image.original, keys[image.source], image.path, image.key)
        for image in RunFolder(context.folder).generated()
        if image.verdict.valid and image.source in keys
    )
    return measure_distance(Runner(store, build(context.cfg.execution)), quality, item)


def _sum(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the sums of numbers by name, in the order of the largest part."""
    total: Counter[str] = Counter()
    for part in sorted(parts, key=len, reverse=True):
        total.update(part)
    return dict(total)


def _sum_plans(plans: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Returns how often each value was planned, by attribute."""
    total: dict[str, Counter[str]] = {}
    for plan in plans:
        for attribute, values in plan.items():
            total.setdefault(attribute, Counter()).update(values)
    return {attribute: dict(sorted(values.items())) for attribute, values in sorted(total.items())}
