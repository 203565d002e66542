"""Looks for mistakes before the first caption, and estimates what the run costs."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import numpy as np
from omegaconf import DictConfig

from . import hub
from .backend import Dataset
from .downloads import (
    Download,
    look_at_path,
    look_at_url,
    look_in_cache,
    look_up,
    one_line,
    split_address,
)
from .errors import NoWeights, UserError
from .memory import find_problems, measure_stages
from .needs import ENDINGS, Need, build_parts, list_needs, list_uses, name_stage
from .pipeline import Pipeline
from .runner import Runner
from .server import Server
from .steps import items
from .steps.predict import PredictStep
from .steps.source import SourceStep
from .task import PredictionSet, get_task
from .types import Sample

log = logging.getLogger(__name__)

INSTEAD = {
    "captioner": "captioner=mini or captioner=annotations",
    "llm": "llm=smollm2",
    "conditioning": "conditioning=canny",
    "generator": "generator=mini",
    "validity": "validity=none",
    "model": "model=mini_segformer or model=mini_resnet",
    "quality": "quality=null",
}
"""The options of each group that need no download."""

SAMPLES = 3  # samples that are tried, in case the first ones are damaged


def check_weights(cfg: DictConfig) -> None:
    """Checks that the weights of every stage are here or can be fetched, and that they fit into the memory.

    Nothing is loaded or fetched. Raises a UserError that names everything that is missing, gated or too
    large, and the first server that does not answer.
    """
    parts = build_parts(cfg)
    found, missing, problems = [], [], []
    for need in list_needs(parts):
        try:
            found.append((need, _find(need)))
        except NoWeights as error:
            missing.append(need)
            problems.append(f"{need.setting}={need.address}: {error.reason or error}")
        except UserError as error:
            problems.append(f"{need.setting}={need.address}: {error}")
    problems += [*find_problems(measure_stages(found)), *_advise(missing, parts)]
    if problems:
        message = "\n".join(problems)
        raise NoWeights(message) if missing else UserError(message)
    for server in _list_servers(parts):
        server.connect()


def check_conditionings(pipeline: Pipeline, samples: Sequence[Sample]) -> None:
    """Raises a UserError if a conditioning needs masks and the data set has none."""
    for part in pipeline.conditionings.values():
        if getattr(part, "needs_masks", False) and samples and samples[0].mask is None:
            raise UserError(
                f"conditioning={part.name} needs masks, and {pipeline.dataset.name} has none; use "
                "conditioning=canny"
            )


def check_models(pipeline: Pipeline, runner: Runner, samples: Sequence[Sample]) -> None:
    """Lets every model predict one original, and shows its score; warns of one that is no better than chance.

    The run uses the record, so that no work is done twice. Raises a UserError for a model that cannot be
    loaded, whose classes do not fit the data set, or that fails.
    """
    probe = Runner(
        runner.store, runner.executor, runner.max_failures, runner.retry_failed, allow_total_failure=True
    )
    first = sorted(samples, key=lambda sample: sample.id)[:SAMPLES]
    if pipeline.models:
        log.info("Checking the models on the first %d images", len(first))
    sources = probe.run(SourceStep(pipeline.dataset, pipeline.size), first)
    if not sources:
        return  # the run itself reports what is wrong with the samples
    item, _ = items.make_original(next(iter(sources.values())))
    for model in pipeline.models:
        step = PredictStep(model, pipeline.dataset, runner.executor.devices)
        records = probe.run(step, [item])
        if not records:
            message = probe.failures[-1]["message"]
            raise UserError(f"model={model.name} cannot predict the original of {item.sample.id}: {message}")
        (record,) = records.values()
        _show_score(model.name, item.sample.id, record.value, pipeline.dataset)


def _show_score(model: str, sample_id: str, record: Mapping[str, Any], dataset: Dataset) -> None:
    """Shows the score of a prediction in the metric of its task."""
    score, chance = _score(record, dataset)
    metric = get_task(dataset.task).metric.replace("_", " ").replace("iou", "IoU")
    scored = "" if np.isnan(score) else f": {metric} {score:.2f}"
    log.info(
        "model=%s: loaded, its classes fit, and it predicts the original of %s%s", model, sample_id, scored
    )
    if score == 0 or score <= chance < 1:  # of one image with one label, chance is 1
        compared = f", and the commonest class everywhere has {chance:.2f}" if chance < 1 else ""
        log.warning(
            "model=%s: %s %.2f on the original of %s%s. Check class_map, the normalisation (mean, std) and "
            "the order of the colour channels", model, metric, score, sample_id, compared,
        )  # fmt: skip


def _score(record: Mapping[str, Any], dataset: Dataset) -> tuple[float, float]:
    """Returns the score of a prediction and that of the most frequent class; NaN where there is none."""
    import pyarrow as pa

    task = get_task(dataset.task)
    columns = {
        name: pa.array([record[name]], kind) for name, kind in task.columns.items() if kind != pa.binary()
    }
    tallies = task.tallies(columns, dataset)
    size = len(task.confusion_names(dataset))
    matrix = np.zeros((size, size))
    if size:
        _, true, predicted, counts = task.confusion_cells(columns)
        np.add.at(matrix, (true, predicted), counts)
        matrix[[i for i in dataset.ignored if i < size]] = 0  # an ignored id may have no name
    scores = task.score(tallies)
    prediction = PredictionSet(tallies.sum(0), scores, {}, matrix, matrix)
    return float(scores[0]), float("nan") if size and not matrix.any() else task.chance_score(prediction)


def _advise(missing: Sequence[Need], parts: Mapping[str, Any]) -> Iterator[str]:
    """Yields, once for all missing weights, which other settings open them and what helps."""
    addresses = {need.address: need.setting for need in missing}
    uses = [use for use in list_uses(parts) if addresses.get(use.address, use.setting) != use.setting]
    for use in uses:
        yield f"{use.setting}={use.address}: the same weights"
    if missing:
        stages = [name_stage(setting) for setting in (*addresses.values(), *(use.setting for use in uses))]
        groups = dict.fromkeys(stage.partition(".")[0] for stage in stages)
        instead = ", ".join(INSTEAD.get(group, f"another option of {group}") for group in groups)
        caches = " and ".join(dict.fromkeys(map(_cache_of, addresses)))
        yield (
            f"Give the path of a folder or file for each, or fetch all of them into {caches} while "
            "there is a network (job=prefetch with the same settings), or use what needs no download: "
            f"{instead}"
        )


def _cache_of(address: str) -> str:
    """Returns the folder in which downloads of an address are kept."""
    if "://" in address:
        import torch

        return str(Path(torch.hub.get_dir()) / "checkpoints")
    from huggingface_hub.constants import HF_HUB_CACHE

    return HF_HUB_CACHE


def _explain(url: str, error: Exception) -> str:
    """Returns why a file on a server cannot be fetched, in plain words and without its address."""
    if isinstance(error, HTTPError):
        return f"its server answers {error.code} ({error.reason})"
    if isinstance(error, OSError):  # also of urllib
        return f"the server {urlsplit(url).hostname} cannot be reached"
    return f"its server gives no size: {one_line(error)}"


def _find(need: Need) -> Download:
    """Returns the files of a need, on this machine or on the hub; raises a UserError if there are none."""
    if need.is_local:
        return look_at_path(need)
    if "://" in need.address:
        try:
            return look_at_url(need.address)
        except Exception as error:  # of several types
            reason = f"it is not in {_cache_of(need.address)}, and {_explain(need.address, error)}"
            raise NoWeights(f"{need.address}: {reason}", reason) from error
    if download := look_in_cache(need):
        return download
    repository, name = split_address(need.address)
    group = need.stage.partition(".")[0]
    instead = INSTEAD.get(group, f"another option of {group}")
    is_file = bool(name) or Path(need.address).suffix in ENDINGS
    hub.ask_hub(repository, need.address, "file" if is_file else "folder", instead)
    return look_up(need)


def _list_servers(value: Any) -> list[Server]:
    """Returns the servers that back-ends ask."""
    if isinstance(value, Server):
        return [value]
    if isinstance(value, Mapping):
        return [server for part in value.values() for server in _list_servers(part)]
    language_model = getattr(value, "llm", None)
    return _list_servers(language_model) if language_model is not None else []
