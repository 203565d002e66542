"""The main job: counterfactuals of a data set, and what the model under test makes of them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import build
from ..pipeline import Pipeline
from ..report import percent, verdict, words, write
from ..store import Store
from ..tracking import Tracked, track

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Runs the pipeline that a configuration describes; leaves its files in Hydra's output folder and its figures in MLflow."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with tracked(cfg, folder) as tracking:
        pipeline = assembled(cfg)
        out = pipeline.run(folder)
        write(out, pipeline.dataset, folder)
        tracking.log(out)
    _show(out.results)
    farewell(folder, cfg.tracking.uri)


def tracked(cfg: DictConfig, folder: Path) -> AbstractContextManager[Tracked]:
    """Returns what gives a job a run in MLflow, under the settings that it was started with."""
    hydra = HydraConfig.get()
    groups = {group: option for group, option in hydra.runtime.choices.items() if "/" not in group} | {"model": ", ".join(cfg.model)}
    sweep = Path(hydra.sweep.dir).absolute() if hydra.mode == RunMode.MULTIRUN else None
    settings = dict(flat(OmegaConf.to_container(cfg)))
    name, config = f"{folder.parent.name} {folder.name}", OmegaConf.to_yaml(cfg)
    return track(**cfg.tracking, folder=folder, name=name, params=groups | settings, config=config, sweep=sweep)


def assembled(cfg: DictConfig) -> Pipeline:
    """Returns the pipeline that a configuration describes."""
    return Pipeline(
        dataset=build(cfg.dataset),
        captioner=build(cfg.captioner),
        editor=build(cfg.prompt),
        edits=build(cfg.edits),
        conditioning=build(cfg.conditioning),
        generator=build(cfg.generator),
        validity=build(cfg.validity),
        models=[build(block) for block in cfg.model.values()],
        execution=build(cfg.execution),
        store=Store(cfg.store),
        quality=build(cfg.quality) if cfg.get("quality") else None,
        devices=cfg.devices,
        counterfactuals=cfg.counterfactuals,
        save_controls=cfg.save_controls,
        seed=cfg.seed,
        size=OmegaConf.to_container(cfg)["size"],  # type: ignore[call-overload,index,arg-type]  # of a configuration that is checked
    )


def flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of a configuration by their dotted names."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        elif key not in ("_target_", "_partial_"):
            yield path + str(key), value


def against(what: str, rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Returns a table of statistics.comparisons, in which `a` and `b` are names."""
    table = Table(title=title, title_justify="left", show_lines=True)
    for header in (what, "on", "originals", "counterfactuals", "drop", "95 % interval", "p"):
        table.add_column(header, overflow="fold")
    for row in rows:
        cells = [f"{row['a']} less {row['b']}", words.shared(row)]
        if row["sources"]:
            drop = row["drop"]
            cells += [words.points(row[side]["difference"]) for side in ("original", "counterfactual", "drop")]
            cells += ["-" if drop["low"] is None else f"{words.points(drop['low'])} to {words.points(drop['high'])}", words.chance(drop["p_adjusted"])]
        table.add_row(*map(Text, cells))
    return table


def farewell(folder: Path, uri: str) -> None:
    """Says where the results are."""
    log.info("Folder:  %s (open report.html)", folder)
    log.info("Runs:    %s", uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}")


def _show(results: dict[str, Any]) -> None:
    console = Console()
    console.print(f"{results['dataset']}: " + ", ".join(f"{n} {name}" for name, n in results["counts"].items()), highlight=False)
    for model, figures in results["models"].items():
        every = figures["all"]
        parts = {"valid": figures, "images in all": every} if figures["images"] < every["images"] else {"images, all valid": figures}
        for which, part in parts.items():
            table = Table(
                "figure", "original", "counterfactual", "drop, points", "95 % interval", title=f"{model}: {part['images']} {which}", title_justify="left"
            )
            for metric in part.get("original", ()):
                main = metric == part["metric"]
                interval = f"{words.points(part['low'])} to {words.points(part['high'])}" if main and part["low"] is not None else ""
                before, after = percent(part["original"][metric]), percent(part["counterfactual"][metric])
                table.add_row(words.name_of(metric), before, after, words.points(part["drop"]) if main else "", interval)
            console.print(table)
        log.info("%s", verdict(model, figures))
        worst = words.worst(figures)
        chance = ["" if words.told(row, figures["level"]) else ", may be chance" for row in worst]
        if said := [f"{r['attribute']} {r['from']} → {r['to']} ({words.points(r['drop'])} points{c})" for r, c in zip(worst, chance, strict=True)]:
            log.info("Worst: %s", ", ".join(said))
    if results["comparisons"]:
        console.print(against("models", results["comparisons"], "Differences in points, paired"))
