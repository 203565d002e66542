"""The file that describes a finished shard, and the checks before shards are joined."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..context import flatten
from ..errors import UserError
from ..files import write_atomically
from ..keys import identity
from ..pipeline import Pipeline
from ..run_folder import RESULTS, SHARD
from ..shard import Shard

SHARD_VERSION = 1
LISTED_DIFFERENCES = 5
MACHINE_SETTINGS = ("batch_size", "device")  # of a gate, whose other settings decide which images count


@dataclass(frozen=True)
class ShardResults:
    """What a shard made; its folder also holds the images, predictions and failures.

    Attributes:
        shard: Its number and the number of shards, such as "0/8".
        run: The part of results.json that describes the run.
        made_from: Everything that decides the results: it must be equal in all shards.
        sources: How many sources the data set has, those of other shards too.
        sources_digest: A hash of their ids.
        source_keys: The keys of the records of the sources with valid images, if sets are compared.
        items: How many items each step had.
        store: The folder of the store.
    """

    shard: str
    run: dict[str, Any]
    models: list[str]
    made_from: dict[str, Any]
    sources: int
    sources_digest: str
    source_keys: dict[str, str]
    counts: dict[str, int]
    items: dict[str, int]
    seconds: dict[str, float]
    wall_seconds: float
    plan: Mapping[str, Mapping[str, int]]
    store: str

    def write(self, folder: Path) -> None:
        """Writes the file, which makes the shard complete."""
        write_atomically(folder / SHARD, json.dumps({"version": SHARD_VERSION, **vars(self)}, indent=2))

    @classmethod
    def read(cls, folder: Path) -> "ShardResults":
        """Returns the content of the file; raises a UserError for a file of another version."""
        try:
            values: dict[str, Any] = json.loads((folder / SHARD).read_text(encoding="utf-8"))
            format_version = values.pop("version")
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder / SHARD} cannot be read, it is damaged: {error}") from error
        if format_version != SHARD_VERSION:
            raise UserError(
                f"{folder} was written by another version of DILLEMA (format {format_version}, this version "
                f"reads {SHARD_VERSION}). Repeat the shard: finished work comes from its store"
            )
        return cls(**values)


def describe_work(cfg: DictConfig, pipeline: Pipeline) -> dict[str, Any]:
    """Returns, as JSON, everything that decides the results of a run besides its sources."""
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    gates = {}
    for name, block in (values.get("validity") or {}).items():
        gates[name] = {key: value for key, value in block.items() if key not in MACHINE_SETTINGS}
    dataset = pipeline.dataset
    described = {
        "dillema": version("dillema"),
        "dataset": {name: getattr(dataset, name) for name in ("name", "task", "classes", "vary")}
        | {"ignored": sorted(dataset.ignored)},
        "captioner": identity(pipeline.captioner),
        "prompt": identity(pipeline.editor),
        "edits": identity(pipeline.edits),
        "conditioning": identity(pipeline.conditionings),
        "generator": identity(pipeline.generator),
        "validity": gates,
        "gates": {gate.name: identity(gate) for gate in pipeline.gates},
        "model": {model.name: identity(model) for model in pipeline.models},
        "quality": identity(pipeline.quality),
        **{
            name: values[name]
            for name in (
                "seed",
                "counterfactuals",
                "images_per_counterfactual",
                "correct_captions",
                "placebo",
                "size",
                "save_controls",
            )
        },
    }
    as_json: dict[str, Any] = json.loads(json.dumps(described, default=str))
    return as_json


def open_shards(runs: Sequence[str]) -> list[tuple[Path, ShardResults]]:
    """Returns the folders of all shards of one run, each with its results, in their order.

    Args:
        runs: Folders of shards, or folders that hold such folders.

    Raises a UserError unless every shard is there once and all are of one run.
    """
    if not runs:
        raise UserError("job.runs: name the folders of the shards, as in job.runs=[outputs/a,outputs/b]")
    folders = [folder for run in runs for folder in _find_shards(Path(run).expanduser())]
    shards = [(folder, ShardResults.read(folder)) for folder in dict.fromkeys(folders)]
    shards.sort(key=lambda pair: Shard.parse(pair[1].shard).number)
    _check_numbers(shards)
    _check_equality(shards)
    return shards


def _find_shards(folder: Path) -> list[Path]:
    """Returns the folders of shards: a folder itself, or those in it."""
    if (folder / SHARD).exists():
        return [folder.resolve()]
    inside = sorted(file.parent.resolve() for file in folder.glob(f"*/{SHARD}"))
    if inside:
        return inside
    if (folder / RESULTS).exists():
        raise UserError(f"job.runs: {folder} holds a whole run, and no shard of one")
    if folder.is_dir():
        raise UserError(
            f"job.runs: {folder} holds no finished shard: there is no {SHARD} in it. If the shard was "
            "stopped, the same command goes on from there"
        )
    raise UserError(f"job.runs: there is no folder {folder}")


def _check_numbers(shards: Sequence[tuple[Path, ShardResults]]) -> None:
    counts = {Shard.parse(results.shard).count for _, results in shards}
    if len(counts) > 1:
        first, other = (
            next((path, r.shard) for path, r in shards if Shard.parse(r.shard).count == count)
            for count in sorted(counts)[:2]
        )
        raise UserError(
            f"job.runs: {first[0]} is shard {first[1]} and {other[0]} is shard {other[1]}: "
            "the shards of one run have the same number of shards"
        )
    folders: dict[int, Path] = {}
    for path, results in shards:
        number = Shard.parse(results.shard).number
        if number in folders:
            raise UserError(
                f"job.runs: {folders[number]} and {path} are both shard {results.shard}: name one"
            )
        folders[number] = path
    (count,) = counts
    if missing := [f"{number}/{count}" for number in range(count) if number not in folders]:
        raise UserError(
            f"job.runs: {len(missing)} of {count} shards are missing: {', '.join(missing[:20])}"
            + (", ..." if len(missing) > 20 else "")
        )


def _check_equality(shards: Sequence[tuple[Path, ShardResults]]) -> None:
    """Raises a UserError if two shards were made from different settings or sources."""
    first_path, first = shards[0]
    for path, results in shards[1:]:
        if differences := list(_differences(first.made_from, results.made_from)):
            more = len(differences) - LISTED_DIFFERENCES
            raise UserError(
                "\n  ".join(
                    [
                        f"job.runs: {first_path} (shard {first.shard}) and {path} (shard "
                        f"{results.shard}) are of different runs:",
                        *differences[:LISTED_DIFFERENCES],
                        *([f"and {more} more"] if more > 0 else []),
                    ]
                )
            )
        if (first.sources, first.sources_digest) != (results.sources, results.sources_digest):
            raise UserError(
                f"job.runs: shard {first.shard} in {first_path} was taken from {first.sources} sources, "
                f"shard {results.shard} in {path} from {results.sources}"
                + ("" if first.sources != results.sources else " with other ids")
                + ": all shards need the same data set with the same settings"
            )


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Yields the values that differ, by their dotted names."""
    values, other_values = dict(flatten(first)), dict(flatten(other))
    for name in dict.fromkeys([*values, *other_values]):
        if values.get(name) != other_values.get(name):
            yield f"{name}: {values.get(name)!r} and {other_values.get(name)!r}"
