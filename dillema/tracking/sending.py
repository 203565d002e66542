"""Sends the unsent data of a run folder to MLflow."""

import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import UserError
from ..passwords import hide_passwords
from .client import connect
from .pending import FIGURES, UNSENT, PendingRun, lock_folder, now_in_milliseconds
from .process import host_name, process_died

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

ENTRIES_PER_CALL = 100  # MLflow takes 100 parameters in one call, and 1,000 metrics, which 20 models have
SECONDS_BETWEEN_TRIES = (0.1, 0.5)
NO_ANSWER = "API request to"
"""What MLflow says where a server does not answer."""
DEATH = "The process ended without an error: it was killed, or the machine went down."

Entry = TypeVar("Entry")
Result = TypeVar("Result")


def send(folder: Path, addresses: Sequence[str] = ()) -> bool:
    """Sends the unsent data of a run folder; returns False, and sends nothing, if the run may be active.

    Creates the run if MLflow does not have it. Sends nothing twice. `addresses` hold the passwords, which a
    run folder does not keep.
    """
    with lock_folder(folder):
        pending = PendingRun.read(folder, addresses)
        if pending.status == "RUNNING":
            if not process_died(pending.tags):
                return False
            pending.status, pending.end, pending.tags["error"] = "KILLED", now_in_milliseconds(), DEATH
        client = connect(pending.uri)
        finish_run(client, folder, pending, begin_run(client, folder, pending))
    return True


def close_dead_runs(client: "MlflowClient", experiment_name: str, addresses: Sequence[str] = ()) -> None:
    """Ends the runs of this machine whose process has ended, and sends the unsent data of their folders.

    `addresses` hold the passwords, which a run folder does not keep.
    """
    experiment = client.get_experiment_by_name(experiment_name)
    if experiment is None:
        return
    running = f"attributes.status = 'RUNNING' and tags.`dillema.host` = '{host_name()}'"
    for run in client.search_runs([experiment.experiment_id], running):
        tags = run.data.tags
        # it may have ended well since the search, and its process with it
        if not process_died(tags) or client.get_run(run.info.run_id).info.status != "RUNNING":
            continue
        with log_tracking_errors(f"the run {run.info.run_name}, whose process died, is not ended"):
            folder = Path(tags["dillema.folder"])
            waits = (folder / UNSENT / "run.json").exists()
            if waits and PendingRun.read(folder).tags["dillema.id"] == tags["dillema.id"]:
                send(folder, addresses)
            else:
                client.set_tag(run.info.run_id, "error", DEATH)
                client.set_terminated(run.info.run_id, "KILLED")


def begin_run(client: "MlflowClient", folder: Path, pending: PendingRun) -> str:
    """Returns the id of a run; creates it, its experiment and the parent of its sweep if they are missing."""
    from mlflow.entities import Param

    experiment_id = _try_again(lambda: _find_or_create_experiment(client, pending))
    tags = dict(pending.tags)
    if pending.sweep:
        tags["mlflow.parentRunId"] = _find_or_create_parent(client, experiment_id, pending)
    run_id, _ = _find_or_create(client, experiment_id, "dillema.id", tags, pending.name, pending.start)
    for batch in _split([Param(key, value) for key, value in pending.params.items()]):
        client.log_batch(run_id, params=batch)
    client.log_artifact(run_id, str(folder / UNSENT / "config.yaml"))
    return run_id


def finish_run(client: "MlflowClient", folder: Path, pending: PendingRun, run_id: str) -> None:
    """Sends the unsent data that MLflow lacks, ends the run, and removes the folder of unsent data."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

    # a metric that is sent twice with the same time counts once
    moment = pending.end or pending.start
    for batch in _split([Metric(key, value, moment, 0) for key, value in pending.metrics.items()]):
        client.log_batch(run_id, metrics=batch)
    if pending.dataset:
        context = [InputTag("mlflow.data.context", "generated")]
        inputs = [DatasetInput(Dataset(**pending.dataset), context)]
        _try_again(lambda: client.log_inputs(run_id, inputs))
    _send_tables_and_images(client, folder / UNSENT, run_id)
    for file in (folder / "predictions.parquet", folder / "report.html", folder / UNSENT / FIGURES):
        if file.exists():
            client.log_artifact(run_id, str(file))
    if _page_needs_images(folder):  # thousands of small images, with one call for each
        archive = shutil.make_archive(str(folder / UNSENT / "report"), "zip", folder, "report")
        client.log_artifact(run_id, archive)
    for key in pending.tags.keys() & {"models", "error", "mlflow.note.content"}:
        client.set_tag(run_id, key, pending.tags[key])
    client.set_terminated(run_id, pending.status, pending.end)
    shutil.rmtree(folder / UNSENT)


@contextmanager
def log_tracking_errors(consequence: str) -> Iterator[None]:
    """Turns an error into a warning that says its effect on the run in MLflow."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        log.warning(
            "MLflow: %s. %s. Nothing is lost: the run folder holds everything, and "
            "python -m dillema job=sync sends it later.", consequence, hide_passwords(reason).rstrip("."),
        )  # fmt: skip


def _send_tables_and_images(client: "MlflowClient", unsent: Path, run_id: str) -> None:
    """Sends the tables and images that MLflow lacks."""
    tables = {file.path for file in client.list_artifacts(run_id)}
    images = {re.split("[+%]", file.path)[0] for file in client.list_artifacts(run_id, "images")}
    for table in sorted(unsent.glob("tables/*.json")):
        if table.name not in tables:  # MLflow would append the rows
            client.log_table(run_id, json.loads(table.read_text(encoding="utf-8")), table.name)
    for path in sorted(unsent.glob("images/*.png")):
        if f"images/{path.stem}" not in images:
            from PIL import Image

            with Image.open(path) as image:
                client.log_image(run_id, image, key=path.stem, step=0)


def _page_needs_images(folder: Path) -> bool:
    """Returns whether the page of a run refers to images beside it."""
    page = folder / "report.html"
    return (folder / "report").is_dir() and page.exists() and b'"report/' in page.read_bytes()


def _find_or_create_parent(client: "MlflowClient", experiment_id: str, pending: PendingRun) -> str:
    """Returns the id of the parent run of a sweep."""
    sweep = Path(str(pending.sweep))
    tags = {"dillema.sweep": str(sweep), "mlflow.source.name": "dillema"}
    name = f"sweep {sweep.parent.name} {sweep.name}"
    run_id, is_new = _find_or_create(client, experiment_id, "dillema.sweep", tags, name, pending.start)
    if is_new:
        client.set_terminated(run_id)
    return run_id


def _find_or_create(
    client: "MlflowClient", experiment_id: str, tag: str, tags: dict[str, str], name: str, start: int
) -> tuple[str, bool]:
    """Returns the id of the run with a tag, and whether it was just created."""
    value = tags[tag].replace("'", "\\'")
    runs = client.search_runs([experiment_id], f"tags.`{tag}` = '{value}'", max_results=1)
    if runs:
        return runs[0].info.run_id, False
    return client.create_run(experiment_id, start, tags, name).info.run_id, True


def _find_or_create_experiment(client: "MlflowClient", pending: PendingRun) -> str:
    experiment = client.get_experiment_by_name(pending.experiment)
    # a server has its own place for artifacts
    location = None if pending.uri.startswith(("http", "databricks")) else pending.artifacts
    return experiment.experiment_id if experiment else client.create_experiment(pending.experiment, location)


def _try_again(call: Callable[[], Result]) -> Result:
    """Returns the result of a call in which MLflow looks for an entry and creates it if it is missing.

    Runs that do so at the same time get an error, all but one; at the next call they find the entry.
    """
    from mlflow.exceptions import MlflowException

    for seconds in SECONDS_BETWEEN_TRIES:
        try:
            return call()
        except MlflowException as error:
            if NO_ANSWER in str(error):
                raise
        time.sleep(seconds)
    return call()


def _split(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), ENTRIES_PER_CALL):
        yield entries[start : start + ENTRIES_PER_CALL]
