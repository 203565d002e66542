"""Reads the folder of a finished run; needs no data set, models or store.

| file | content |
|---|---|
| `results.json` | all figures; it is written last, so a folder that has it holds a complete run |
| `predictions.parquet` | the predictions of the models on every image (see `dillema.predictions`) |
| `generated/` | the counterfactual images, an imagefolder; `README.md` names its configurations |
| `generated/images/`, `rejected/` | the images that count, and the others; in folders of their classes |
| `generated/metadata.jsonl` | a line for each image of both, with its label and its verdict |
| `placebo/` | the images of unchanged captions, in the same form |
| `originals/` | the sources at the size at which models saw them |
| `controls/<conditioning>/` | the control images of the sources |
| `shard.json` | instead of results.json: what one shard of a run made (see `dillema.job.shard`) |
| `confusion_<model>.csv` | its confusion matrices (see `dillema.report.confusion`) |
| `failures.jsonl` | the failed items: step, id, message and raw reply |
| `.hydra/` | the configuration |
| `preview.html` | the first generated images, until there is a report |
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import predictions
from .config import read_yaml
from .config_check import describe, fits
from .decoding import read_text_file
from .errors import UserError
from .fields import FileName
from .files import write_atomically
from .json_lines import read_lines
from .keys import digest
from .predictions import Predictions
from .types import Caption, Counterfactual, Edit, Verdict

RESULTS_VERSION = 2
RESULTS, PREDICTIONS, FAILURES, METADATA, SHARD = (
    "results.json",
    "predictions.parquet",
    "failures.jsonl",
    "metadata.jsonl",
    "shard.json",
)


_Texts = dict[str, str]
_Numbers = dict[str, float | None]
METADATA_VALUES: dict[str, Any] = {
    **dict.fromkeys(("source", "file_name", "record"), FileName),
    **dict.fromkeys(("group", "caption", "counterfactual"), str),
    **dict.fromkeys(("reasons", "label_columns"), list[str]),
    **dict.fromkeys(("scores", "quality"), _Numbers | None),
    **{"edits": list[_Texts], "seed": int, "checked": bool, "controls": list[FileName]},
    **{"uncorrected_caption": str | None, "method": str | None, "alternatives": dict[str, list[str]] | None},
    **{"attributes": dict[str, str | None] | None, "licences": list[str] | None},
}
"""The values of a line of metadata.jsonl that are read again, and their types."""

FAILURE_VALUES = dict.fromkeys(("step", "id", "message", "raw"), str)

KEPT_IMAGES = 20_000  # of a part, which are read once a job: 60 MB; those of larger sets are read each time

PREVIEW = "preview.html"
COUNTED_IMAGES, REJECTED_IMAGES = "images", "rejected"  # the folders of a generated set


def place_image(name: str, verdict: Verdict) -> str:
    """Returns where an image, called `name` within its folder, lies in a generated set."""
    return f"{COUNTED_IMAGES if verdict.valid else REJECTED_IMAGES}/{name}"


def is_checked(results: Mapping[str, Any]) -> bool:
    """Returns whether a gate could judge any image of a run; otherwise none is called valid."""
    counts = results["counts"]
    return bool(results["gates"]) and counts.get("unjudged") != counts.get("generated", 0)


@dataclass(frozen=True)
class Labels:
    """The properties of a run's data set that figures and pages need; see `dillema.backend.Dataset`."""

    name: str
    task: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    ignored: frozenset[int]

    @classmethod
    def read(cls, results: Mapping[str, Any]) -> "Labels":
        """Returns the labels that results.json describes."""
        colours = tuple((red, green, blue) for red, green, blue in results["colours"])
        classes, ignored = tuple(results["classes"]), frozenset(results["ignored"])
        return cls(results["dataset"], results["task"], classes, colours, ignored)


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Attributes:
        config: The whole configuration.
        options: The option of each group.
        overrides: The overrides of the command line.
    """

    config: Mapping[str, Any]
    options: Mapping[str, str]
    overrides: tuple[str, ...]

    def select(self, path: str) -> Any:
        """Returns the value at a dotted path of the configuration; None if there is none."""
        value: Any = self.config
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


@dataclass(frozen=True)
class StoredImage:
    """A generated image of a run folder.

    Attributes:
        folder: The run folder.
        part: `generated` or `placebo`.
        file: The path of the image below both.
        label: The columns of the task, such as the label or the mask's file.
        attributes: The attributes of the source that the data set gives, such as its weather.
        key: The key of the image's record; equal images of two runs have equal keys.
        licences: Names and licences of what the image is made from.
    """

    folder: Path
    part: str
    file: str
    source: str
    group: str
    caption: Caption
    counterfactual: Counterfactual
    seed: int
    conditionings: Sequence[str]
    verdict: Verdict
    quality: Mapping[str, float]
    label: Mapping[str, Any]
    attributes: Mapping[str, str]
    key: str
    licences: tuple[str, ...] = ()

    # a run has many images, and making a path takes as long as reading the rest
    @property
    def id(self) -> str:
        """Returns the id of the image."""
        return self.file.rpartition("/")[2].rpartition(".")[0]

    @property
    def path(self) -> Path:
        """Returns the path of the image."""
        return self.folder / self.part / self.file

    @property
    def original(self) -> Path:
        """Returns the path of the original."""
        return self.folder / "originals" / f"{self.source}.png"

    @property
    def controls(self) -> dict[str, Path]:
        """Returns the paths of the control images by conditioning."""
        return {name: self.folder / "controls" / name / f"{self.source}.png" for name in self.conditionings}


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run; `open` checks that it holds a finished run of this version."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Returns the folder of a finished run.

        Raises a UserError for a folder without a finished run, or with a run of another version.
        """
        folder = cls(Path(path).expanduser())
        folder.results  # noqa: B018  # reads and checks
        return folder

    @property
    def name(self) -> str:
        """Returns the run's name: the last two parts of its path."""
        absolute = self.path.absolute()
        return f"{absolute.parent.name}/{absolute.name}"

    @cached_property
    def results(self) -> dict[str, Any]:
        """Returns the content of results.json."""
        file = self.path / RESULTS
        if not file.exists() and (self.path / SHARD).exists():
            raise UserError(f"{self.path} holds one shard of a run; job=merge joins the shards to a run")
        if not file.exists():
            raise UserError(f"{self.path} holds no finished run: there is no {RESULTS} in it")
        try:
            results: dict[str, Any] = json.loads(read_text_file(file))
            version = results.get("version", 1)
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"{file} cannot be read, it is damaged: {error}") from error
        if not isinstance(version, int):
            raise UserError(f"{file} is damaged: its version is {version!r:.60}")
        if version != RESULTS_VERSION:
            age = "an older" if version < RESULTS_VERSION else "a newer"
            raise UserError(
                f"{self.path} was written by {age} version of DILLEMA (format {version}, this version reads "
                f"{RESULTS_VERSION}). Repeat the run with the command in its report"
            )
        if results.pop("digest", None) not in (None, digest(results)):
            raise UserError(
                f"{file} is damaged, or was changed by hand: its content does not fit its digest. "
                "Repeat the run: finished work comes from the store"
            )
        return results

    @cached_property
    def _kept(self) -> dict[str, tuple[Any, list[StoredImage]]]:
        """Returns the images of each part that were read, with the state of their file then."""
        return {}

    @property
    def labels(self) -> Labels:
        """Returns the properties of the data set."""
        return Labels.read(self.results)

    @property
    def models(self) -> list[str]:
        """Returns the names of the models under test."""
        return list(self.results["models"])

    @cached_property
    def settings(self) -> Settings:
        """Returns the settings; empty for a run that Hydra did not start."""
        hydra = self.path / ".hydra"
        if not (hydra / "config.yaml").exists():
            return Settings({}, {}, ())
        config = _read_settings(hydra / "config.yaml", dict[str, Any])
        overrides = _read_settings(hydra / "overrides.yaml", list[str])
        choices: Any = _read_settings(hydra / "hydra.yaml", dict[str, Any])
        for key in ("hydra", "runtime", "choices"):
            choices = choices.get(key) if isinstance(choices, dict) else None
        if not isinstance(choices, dict):
            raise UserError(f"{hydra / 'hydra.yaml'} is damaged: it has no hydra.runtime.choices")
        return Settings(
            config, {k: str(v) for k, v in choices.items() if "/" not in str(k)}, tuple(overrides)
        )

    @property
    def predictions_file(self) -> Path:
        """Returns the path of the predictions."""
        return self.path / PREDICTIONS

    def figure(self, name: str) -> float:
        """Returns a number of results.json by its dotted name; raises a UserError if there is none."""
        value: Any = self.results
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                known = ", ".join(value) if isinstance(value, dict) else "a value"
                raise UserError(f"{name}: {self.path / RESULTS} has no {part!r} there; it has {known}")
            value = value[part]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"{name}: {self.path / RESULTS} has no number there, but {value!r}")
        return float(value)

    def predictions(self, model: str) -> Predictions:
        """Returns the predictions of a model."""
        return predictions.read(self.predictions_file, model, self.labels)

    def all_predictions(self) -> dict[str, Predictions]:
        """Returns the predictions of each model under test."""
        return {model: self.predictions(model) for model in self.models}

    def failures(self) -> list[dict[str, str]]:
        """Returns the failed items."""
        failures = list(read_lines(self.path / FAILURES, FAILURE_VALUES))
        self._check_count(self.path / FAILURES, len(failures), "failed")
        return failures

    def generated(self) -> Iterator[StoredImage]:
        """Yields the counterfactual images, in their order."""
        return self.images("generated")

    def placebos(self) -> Iterator[StoredImage]:
        """Yields the images of unchanged captions."""
        return self.images("placebo")

    def count_generated(self) -> int:
        """Returns how many counterfactual images there are."""
        file = self.path / "generated" / METADATA
        if not file.is_file():
            return 0
        with file.open("rb") as lines:
            return sum(1 for _ in lines)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Writes results.json, which makes the run complete."""
        content = json.loads(json.dumps({"version": RESULTS_VERSION, **results}))
        write_atomically(self.path / RESULTS, json.dumps(content | {"digest": digest(content)}, indent=2))
        self.__dict__.pop("results", None)

    def images(self, part: str) -> Iterator[StoredImage]:
        """Yields the images of `generated` or of `placebo`, in their order."""
        file, count = self.path / part / METADATA, "placebos" if part == "placebo" else part
        state = _read_state(file)
        if state and part in self._kept and self._kept[part][0] == state:
            yield from self._kept[part][1]
            self._check_count(file, len(self._kept[part][1]), count)
            return
        lines, kept = 0, []
        for row in read_metadata(self.path / part):
            lines += 1
            image = self._image(part, row)
            if lines <= KEPT_IMAGES:
                kept.append(image)
            yield image
        self._check_count(file, lines, count)
        if lines == len(kept):
            self._kept[part] = state, kept

    def write_metadata(self, part: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the lines of metadata.jsonl of `generated` or of `placebo`, whose images are kept."""
        file, lines, kept = self.path / part / METADATA, [], []
        for row in rows:
            lines.append(json.dumps(row) + "\n")
            if len(lines) <= KEPT_IMAGES:
                kept.append(self._image(part, row))
        write_atomically(file, "".join(lines))
        if len(lines) == len(kept):
            self._kept[part] = _read_state(file), kept

    def _check_count(self, file: Path, lines: int, name: str) -> None:
        """Raises a UserError if a file of a finished run has lost or gained lines."""
        expected = self.results["counts"].get(name) if (self.path / RESULTS).exists() else None
        if expected not in (None, lines):
            raise UserError(f"{file} is damaged: it has {lines} lines, and {RESULTS} says {expected}")

    def _image(self, part: str, row: Mapping[str, Any]) -> StoredImage:
        alternatives = {name: tuple(values) for name, values in (row.get("alternatives") or {}).items()}
        try:
            edits = tuple(Edit(**edit) for edit in row["edits"])
            label = {name: row[name] for name in row["label_columns"]}
        except (KeyError, TypeError) as error:
            file = self.path / part / METADATA
            raise UserError(f"{file}, the line of {row['file_name']}, is damaged: {error}") from error
        return StoredImage(
            folder=self.path,
            part=part,
            file=row["file_name"],
            source=row["source"],
            group=row["group"],
            caption=Caption(row["caption"], row.get("uncorrected_caption") or ""),
            counterfactual=Counterfactual(
                row["counterfactual"], edits, row.get("method") or "", alternatives
            ),
            seed=row["seed"],
            conditionings=row["controls"],
            verdict=Verdict(row.get("scores") or {}, tuple(row["reasons"]), row["checked"]),
            quality=row.get("quality") or {},
            label=label,
            attributes={
                name: value for name, value in (row.get("attributes") or {}).items() if value is not None
            },
            key=row["record"],
            licences=tuple(row.get("licences") or ()),
        )


def _read_state(file: Path) -> tuple[int, int, int] | None:
    """Returns what changes when a file is written again; None where there is no file."""
    status = file.stat() if file.is_file() else None
    return status and (status.st_ino, status.st_mtime_ns, status.st_size)


def read_metadata(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of metadata.jsonl in a generated set; raises a UserError that names a damaged line."""
    return read_lines(folder / METADATA, METADATA_VALUES)


def _read_settings(path: Path, hint: Any) -> Any:
    """Returns the content of a file of `.hydra/`; raises a UserError if it is damaged."""
    try:
        content = read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read, it is damaged: {error}") from error
    if not fits(content, hint):
        raise UserError(f"{path} is damaged: it must hold {describe(hint)}")
    return content
