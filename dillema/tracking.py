"""The runs in MLflow: a copy of what the run folders hold, so nothing that goes wrong here may end a run or hold it up.

What MLflow is to know of a run lies in the folder `unsent` of its run folder until MLflow has all of it, so that neither a server
that is away nor a process that is killed loses anything: `job=sync` sends it later.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from heapq import nsmallest
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .pairs import Pair
from .pipeline import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

UNSENT = "unsent"
TABLE = 10_000  # pairs in the table of pairs, which MLflow's page takes whole
GRID = 16  # pairs whose images are logged: the same ones in all runs on the same sources
AT_ONCE = 100  # parameters that MLflow takes in one call; of metrics it takes 1000, which 20 models have
LONGEST = 500  # characters of a parameter
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}  # left to itself, MLflow waits for minutes
DEAD = "The process is gone and left no error: it was killed, or the machine went down."


@dataclass
class Note:
    """What MLflow is to know of a run, besides the tables, images and files beside it; times in milliseconds."""

    uri: str
    artifacts: str
    experiment: str
    name: str
    start: int
    params: dict[str, str]
    tags: dict[str, str]
    sweep: str | None
    status: str = "RUNNING"
    end: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    dataset: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Note":
        """Returns the note in a run folder."""
        return cls(**json.loads((folder / UNSENT / "run.json").read_text()))

    def write(self, folder: Path) -> None:
        """Keeps the note in a run folder."""
        temporary = folder / UNSENT / "run.json.tmp"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(folder / UNSENT / "run.json")


@contextmanager
def track(
    uri: str,
    artifacts: str,
    experiment: str,
    price_per_hour: float | None = None,
    *,
    folder: Path,
    name: str,
    params: Mapping[str, Any],
    config: str,
    sweep: Path | None = None,
) -> Iterator["Tracked"]:
    """Gives a run in MLflow for as long as the job takes, and marks it failed, with the error, when that raises.

    `price_per_hour` is what the machine costs; `folder` is the run folder; `sweep` is the folder of the sweep that the job
    belongs to: its runs lie under one parent.
    """
    tags = {"mlflow.source.name": "dillema", "dillema.id": uuid.uuid4().hex, "dillema.folder": str(folder.resolve())} | _process()
    texts = {_key(key): str(value)[:LONGEST] for key, value in params.items()}
    note = Note(absolute(uri), _location(artifacts), experiment, name, _now(), texts, tags, str(sweep) if sweep else None)
    tracked = Tracked(folder, note, price_per_hour)
    with _kept("the run starts without tracking"):
        tracked.start(config)
    try:
        yield tracked
    except BaseException as error:
        with _kept("the run is not marked as failed"):
            tracked.end(error)
        raise
    with _kept("the run is not sent in full"):
        tracked.end()


class Tracked:
    """One run in MLflow; a server that was away at its start is left alone until `job=sync`."""

    def __init__(self, folder: Path, note: Note, price_per_hour: float | None = None) -> None:
        self._folder, self._note, self._price = folder, note, price_per_hour
        self._client: MlflowClient | None = None
        self._run = ""

    def start(self, config: str) -> None:
        """Makes the run, and ends those of this machine that died."""
        (self._folder / UNSENT).mkdir(parents=True, exist_ok=True)
        (self._folder / UNSENT / "config.yaml").write_text(config)
        self._note.write(self._folder)
        client = connect(self._note.uri)
        self._run = _begin(client, self._folder, self._note)
        self._client = client
        settle(client, self._note.experiment)

    def log(self, run: Run) -> None:
        """Notes the figures, the tables of pairs and of edits, the images of 16 pairs, and the generated set of a run."""
        with _kept("the figures are not noted in full"):
            self._log(run, self._folder / UNSENT)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the run, as finished, or as failed with the error in its tags, and sends what is noted."""
        self._note.status, self._note.end = "FINISHED" if error is None else "FAILED", _now()
        if error is not None:
            self._note.tags["error"] = "".join(traceback.format_exception(error))[-5000:]
        self._note.write(self._folder)
        if self._client is not None:
            with _alone(self._folder):
                _finish(self._client, self._folder, self._note, self._run)

    def _log(self, run: Run, unsent: Path) -> None:
        models, images = run.results["models"], hashlib.sha256()
        for pair in run.pairs:
            images.update(pair.image.name.encode())
        self._note.tags["models"] = ", ".join(models)
        self._note.metrics = figures(run.results | totals(run.results, self._price))
        self._note.dataset = {
            "name": f"{run.results['dataset']}-counterfactuals",
            "digest": images.hexdigest()[:32],
            "source_type": "local",
            "source": json.dumps({"uri": (self._folder / "generated").resolve().as_uri()}),
            "profile": json.dumps({"num_rows": len(run.pairs), "valid": run.results["counts"]["valid"]}),
        }
        edits = [{"model": model} | row for model, part in models.items() for row in part.get("per_attribute", ())]
        differences = [_difference(row) for row in run.results["comparisons"] if row["sources"]]
        for name, rows in (("pairs", [_row(pair) for pair in islice(run.pairs, TABLE)]), ("per_attribute", edits), ("comparisons", differences)):
            if rows:
                (unsent / "tables").mkdir(exist_ok=True)
                (unsent / "tables" / f"{name}.json").write_text(json.dumps({column: [row[column] for row in rows] for column in rows[0]}))
        (unsent / "images").mkdir(exist_ok=True)
        # the first counterfactual of each source, then the second ones: fixed by the sources, not by what became of them
        for pair in nsmallest(GRID, run.pairs, key=lambda pair: pair.id.rpartition("_")[2]):
            beside(pair).save(unsent / "images" / f"{_key(pair.id)}.png", compress_level=1)
        self._note.write(self._folder)


def send(folder: Path) -> bool:
    """Sends what lies unsent in a run folder; returns False, and sends nothing, where the run may still be at work.

    The run is made if MLflow lacks it; what MLflow has already is not sent twice.
    """
    with _alone(folder):
        note = Note.read(folder)
        if note.status == "RUNNING":
            if not _gone(note.tags):
                return False
            note.status, note.end, note.tags["error"] = "KILLED", _now(), DEAD
        client = connect(note.uri)
        _finish(client, folder, note, _begin(client, folder, note))
    return True


def settle(client: "MlflowClient", experiment: str) -> None:
    """Ends the runs of this machine whose process is gone: with all that their folders hold unsent, or as killed."""
    known = client.get_experiment_by_name(experiment)
    if known is None:
        return
    for run in client.search_runs([known.experiment_id], f"attributes.status = 'RUNNING' and tags.`dillema.host` = '{_host()}'"):
        tags = run.data.tags
        if not _gone(tags):
            continue
        with _kept(f"the run {run.info.run_name}, which died, is not ended"):
            folder = Path(tags["dillema.folder"])
            if (folder / UNSENT / "run.json").exists() and Note.read(folder).tags["dillema.id"] == tags["dillema.id"]:
                send(folder)
            else:
                client.set_tag(run.info.run_id, "error", DEAD)
                client.set_terminated(run.info.run_id, "KILLED")


def connect(uri: str) -> "MlflowClient":
    """Returns a client that soon gives up on a server that is away, unless MLflow's environment variables say otherwise."""
    for name, value in ({"MLFLOW_DISABLE_TELEMETRY": "true"} | PATIENCE).items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for noisy, level in {"mlflow": logging.WARNING, "alembic": logging.WARNING, "urllib3.connectionpool": logging.ERROR}.items():
        logging.getLogger(noisy).setLevel(level)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri)


def absolute(uri: str) -> str:
    """Returns an address of MLflow that does not depend on where the process stands."""
    return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).resolve()}" if uri.startswith("sqlite:///") else uri


def figures(results: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns the numbers of results.json by the path to them, less the long tables."""
    found: dict[str, float] = {}
    for key, value in results.items():
        if isinstance(value, Mapping) and key not in ("per_class", "per_condition"):
            found |= figures(value, f"{prefix}{'' if key == 'models' else f'{key}/'}")
        elif isinstance(value, Real) and not isinstance(value, bool):
            found[_key(prefix + key)] = float(value)
    return found


def totals(results: Mapping[str, Any], price_per_hour: float | None) -> dict[str, float | None]:
    """Returns the share of valid images, the seconds of a run, all of them and for each valid image, and the cost of one where the price is known.

    Work that earlier runs had finished, and that the run took from the store, is in neither the seconds nor the cost.
    """
    counts, seconds = results["counts"], sum(results["seconds"].values())
    valid, generated = counts["valid"], counts["generated"]
    each = seconds / valid if valid else None
    cost = None if each is None or price_per_hour is None else each * price_per_hour / 3600
    return {"validity": valid / generated if generated else None, "seconds_total": seconds, "seconds_per_valid_image": each, "cost_per_valid_image": cost}


def beside(pair: Pair) -> Image.Image:
    """Returns the original and, on its right, the counterfactual image."""
    with Image.open(pair.image) as image:
        both = Image.new("RGB", (2 * image.width, image.height))
        both.paste(pair.sample.image.resize(image.size), (0, 0))
        both.paste(image, (image.width, 0))
    return both


def _begin(client: "MlflowClient", folder: Path, note: Note) -> str:
    """Returns the id of a run; makes it, and the experiment and the sweep's parent, where they are missing."""
    from mlflow.entities import Param

    known = client.get_experiment_by_name(note.experiment)
    # a server knows best where its artifacts belong
    location = None if note.uri.startswith(("http", "databricks")) else note.artifacts
    where = known.experiment_id if known else client.create_experiment(note.experiment, location)
    tags = dict(note.tags)
    if note.sweep:
        sweep = Path(note.sweep)
        marks = {"dillema.sweep": note.sweep, "mlflow.source.name": "dillema"}
        tags["mlflow.parentRunId"], made = _made(client, where, "dillema.sweep", marks, f"sweep {sweep.parent.name} {sweep.name}", note.start)
        if made:
            client.set_terminated(tags["mlflow.parentRunId"])
    run, _ = _made(client, where, "dillema.id", tags, note.name, note.start)
    entries = [Param(key, value) for key, value in note.params.items()]
    for i in range(0, len(entries), AT_ONCE):
        client.log_batch(run, params=entries[i : i + AT_ONCE])
    client.log_artifact(run, str(folder / UNSENT / "config.yaml"))
    return run


def _made(client: "MlflowClient", experiment: str, mark: str, tags: dict[str, str], name: str, start: int) -> tuple[str, bool]:
    """Returns the id of the run that bears a mark, and whether it had to be made."""
    found = client.search_runs([experiment], f"tags.`{mark}` = '{tags[mark]}'", max_results=1)
    return (found[0].info.run_id, False) if found else (client.create_run(experiment, start, tags, name).info.run_id, True)


def _finish(client: "MlflowClient", folder: Path, note: Note, run: str) -> None:
    """Sends all that is noted and not there yet, ends the run, and removes the note."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

    unsent = folder / UNSENT
    there = {file.path for file in client.list_artifacts(run)} | {re.split("[+%]", file.path)[0] for file in client.list_artifacts(run, "images")}
    # what is sent again with the same time counts once
    metrics = [Metric(key, value, note.end or note.start, 0) for key, value in note.metrics.items()]
    for i in range(0, len(metrics), AT_ONCE):
        client.log_batch(run, metrics[i : i + AT_ONCE])
    if note.dataset:
        client.log_inputs(run, [DatasetInput(Dataset(**note.dataset), [InputTag("mlflow.data.context", "generated")])])
    for table in sorted(unsent.glob("tables/*.json")):
        if table.name not in there:  # MLflow would add the rows once more
            client.log_table(run, json.loads(table.read_text()), table.name)
    for path in sorted(unsent.glob("images/*.png")):
        if f"images/{path.stem}" not in there:
            with Image.open(path) as image:
                client.log_image(run, image, key=path.stem, step=0)
    for file in (folder / "predictions.parquet", folder / "report.html"):
        if file.exists():
            client.log_artifact(run, str(file))
    if (folder / "report").is_dir():  # the images that did not fit into the page: thousands, which would take a call each
        client.log_artifact(run, shutil.make_archive(str(unsent / "report"), "zip", folder, "report"))
    for key in note.tags.keys() & {"models", "error"}:
        client.set_tag(run, key, note.tags[key])
    client.set_terminated(run, note.status, note.end)
    shutil.rmtree(unsent)


def _row(pair: Pair) -> dict[str, Any]:
    edits = "; ".join(f"{e.attribute}: {e.original} -> {e.replacement}" for e in pair.counterfactual.edits)
    texts = {"caption": pair.caption.text, "counterfactual": pair.counterfactual.text, "edits": edits}
    return {"id": pair.id, "source": pair.sample.id} | texts | {"valid": pair.verdict.valid}


def _difference(row: Mapping[str, Any]) -> dict[str, Any]:
    sides = {f"{side}_{name}": value for side in ("original", "counterfactual", "drop") for name, value in row[side].items()}
    return {name: row[name] for name in ("a", "b", "metric", "paired", "sources")} | sides


def _location(artifacts: str) -> str:
    return artifacts if "://" in artifacts else Path(artifacts).resolve().as_uri()


def _key(name: str) -> str:
    """Returns a name as MLflow takes it for a parameter, a metric or an image."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


def _now() -> int:
    return int(time.time() * 1000)


def _host() -> str:
    """Returns the name of this machine and of its process table: containers may share the one and not the other."""
    table = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {table.readlink() if table.is_symlink() else ''}".strip()


def _process() -> dict[str, str]:
    return {"dillema.host": _host(), "dillema.pid": str(os.getpid()), "dillema.started": _started(os.getpid())}


def _started(process: int) -> str:
    """Returns when a process of this machine started, in clock ticks; "" if there is none, or the system (not Linux) does not say."""
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "XZ" else rest[18]


def _gone(tags: Mapping[str, str]) -> bool:
    """Returns whether a process was of this machine and is no more."""
    started = tags["dillema.started"]
    return tags["dillema.host"] == _host() and started != "" and started != _started(int(tags["dillema.pid"]))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from sending the same run meanwhile."""
    place = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems know no locks
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


@contextmanager
def _kept(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        log.warning("MLflow: %s (%s). The run folder has all of it; python -m dillema job=sync sends it later.", what, reason)
