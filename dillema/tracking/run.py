"""One run in MLflow, for as long as its job takes."""

import os
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from ..context import JobContext
from ..report.origin import hide_passwords
from ..run_folder import RunFolder
from .client import absolute, artifact_location, connect, run_address
from .content import as_key, collect
from .pending import UNSENT, PendingRun, lock_folder, now_in_milliseconds
from .process import process_tags
from .sending import begin_run, close_dead_runs, finish_run, log_tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARAMETER_LENGTH = 500  # characters that MLflow takes
ERROR_LENGTH = 5000
# whoever stops a run waits for it to end
TIMEOUTS_WHEN_STOPPED = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def track(job: JobContext) -> AbstractContextManager["TrackedRun"]:
    """Opens a run in MLflow for a job, with the settings that the job was started with."""
    options = {**(job.options or {}), "model": ", ".join(job.cfg.model)}
    return open_run(
        **job.cfg.tracking,
        folder=job.folder,
        name=job.name,
        params=options | job.settings(),
        config=OmegaConf.to_yaml(job.cfg),
        sweep=job.sweep,
    )


@contextmanager
def open_run(
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
) -> Iterator["TrackedRun"]:
    """Opens a run in MLflow for as long as the block takes.

    A block that raises leaves a failed run with the error; one that is stopped (Ctrl-C, SIGTERM) leaves a
    killed run.

    Args:
        uri: Address of MLflow.
        artifacts: Where MLflow keeps files, for a database; a server has a place of its own.
        experiment: The experiment that the run belongs to.
        price_per_hour: What the machine costs.
        folder: The run folder.
        name: The name of the run.
        params: The settings.
        config: The configuration, YAML.
        sweep: The folder of the sweep that the job belongs to: its runs have one parent.
    """
    tags = {
        "mlflow.source.name": "dillema",
        "dillema.id": uuid.uuid4().hex,
        "dillema.folder": str(folder.resolve()),
    }
    texts = {as_key(key): hide_passwords(str(value))[:PARAMETER_LENGTH] for key, value in params.items()}
    pending = PendingRun(
        uri=absolute(uri),
        artifacts=artifact_location(artifacts),
        experiment=experiment,
        name=name,
        start=now_in_milliseconds(),
        params=texts,
        tags=tags | process_tags(),
        sweep=str(sweep) if sweep else None,
    )
    tracked_run = TrackedRun(folder, pending, price_per_hour)
    with log_tracking_errors("the run starts without tracking"):
        tracked_run.start(hide_passwords(config))
    try:
        yield tracked_run
    except BaseException as error:
        with log_tracking_errors("the run is not marked as ended"):
            tracked_run.end(error)
        raise
    with log_tracking_errors("the run is not sent in full"):
        tracked_run.end()


class TrackedRun:
    """One run in MLflow. Nothing is sent to a server that was away at its start: `job=sync` does that.

    Attributes:
        address: The link to the run; "" where MLflow does not have it.
    """

    def __init__(self, folder: Path, pending: PendingRun, price_per_hour: float | None = None) -> None:
        self._folder, self._pending, self._price = folder, pending, price_per_hour
        self._client: MlflowClient | None = None
        self._run_id = self.address = ""

    def start(self, config: str) -> None:
        """Creates the run, and ends those of this machine whose process died."""
        unsent = self._folder / UNSENT
        unsent.mkdir(parents=True, exist_ok=True)
        (unsent / "config.yaml").write_text(config, encoding="utf-8")
        self._pending.write(self._folder)
        client = connect(self._pending.uri)
        self._run_id = begin_run(client, self._folder, self._pending)
        self._client = client
        experiment_id = client.get_run(self._run_id).info.experiment_id
        self.address = hide_passwords(run_address(self._pending.uri, experiment_id, self._run_id))
        close_dead_runs(client, self._pending.experiment)

    def log(self, folder: RunFolder) -> None:
        """Adds the figures, tables and images of the finished run, and its verdict as description."""
        with log_tracking_errors("the figures are not logged in full"):
            collect(folder, self._pending, self._price)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the run as finished, failed or killed, and sends everything that waits."""
        was_stopped = error is not None and not isinstance(error, Exception)
        self._pending.status = "KILLED" if was_stopped else "FAILED" if error is not None else "FINISHED"
        self._pending.end = now_in_milliseconds()
        if error is not None:
            self._pending.tags["error"] = hide_passwords(
                "".join(traceback.format_exception(error))[-ERROR_LENGTH:]
            )
        self._pending.write(self._folder)
        if was_stopped:
            os.environ.update(TIMEOUTS_WHEN_STOPPED)
        if self._client is not None:
            with lock_folder(self._folder):
                finish_run(self._client, self._folder, self._pending, self._run_id)
