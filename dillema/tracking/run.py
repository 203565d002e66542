"""A run in MLflow during its job."""

import threading
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..context import JobContext
from ..passwords import hide_passwords
from ..run_folder import RunFolder
from .client import absolute, artifact_location
from .content import as_key, collect
from .pending import UNSENT, PendingRun, now_in_milliseconds
from .process import process_tags
from .sender import NOT_STARTED, Sender, give_back, take_sender
from .sending import log_tracking_errors

PARAMETER_LENGTH = 500  # characters that MLflow takes
ERROR_LENGTH = 5000
NOT_SENT, NOT_ENDED = "the run is not sent in full", "the run is not marked as ended"
# a user who stops a run waits for its end
SECONDS_WHEN_STOPPED = 1.0
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
        in_background=True,
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
    in_background: bool = False,
) -> Iterator["TrackedRun"]:
    """Opens a run in MLflow for the duration of the block.

    A block that raises ends the run as failed, with the error; a block that is stopped (Ctrl-C, SIGTERM) ends
    it as killed.

    Args:
        uri: Address of MLflow.
        artifacts: Where MLflow keeps files if `uri` is a database; a server has its own place.
        experiment: The experiment that the run belongs to.
        price_per_hour: The price of an hour of the machine.
        folder: The run folder.
        name: The name of the run.
        params: The settings.
        config: The configuration, YAML.
        sweep: The folder of the sweep that the job belongs to: its runs have one parent.
        in_background: Whether the block begins before MLflow has the run, which takes seconds; see
            `TrackedRun.wait`.
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
    tracked_run.start(hide_passwords(config), in_background)
    try:
        yield tracked_run
    except BaseException as error:
        with log_tracking_errors(NOT_ENDED):
            tracked_run.end(error)
        raise
    with log_tracking_errors(NOT_SENT):
        tracked_run.end()


class TrackedRun:
    """A run in MLflow. If the server is unreachable at the start, only `job=sync` sends the data.

    Attributes:
        address: The link to the run, once the block has ended; "" where MLflow does not have it.
    """

    def __init__(self, folder: Path, pending: PendingRun, price_per_hour: float | None = None) -> None:
        self._folder, self._pending, self._price = folder.absolute(), pending, price_per_hour
        self._sender: Sender | None = None
        self._is_beginning = False
        self._waiting = threading.Lock()  # blocks of sources have threads of their own
        self._run_id = self.address = ""

    def start(self, config: str, in_background: bool = False) -> None:
        """Creates the run, and ends runs of this machine whose process died."""
        with log_tracking_errors(NOT_STARTED):
            unsent = self._folder / UNSENT
            unsent.mkdir(parents=True, exist_ok=True)
            (unsent / "config.yaml").write_text(config, encoding="utf-8")
            self._pending.write(self._folder)
            self._sender = take_sender()
            self._sender.ask("begin", self._folder, self._pending.addresses)
            self._is_beginning = True
        if not in_background:
            self.wait()

    def wait(self) -> None:
        """Waits until MLflow has the run, or cannot be reached: a run that computes is always there."""
        with log_tracking_errors(NOT_STARTED), self._waiting:
            self._receive_begin()

    def _receive_begin(self, seconds: float | None = None) -> None:
        """Waits for the answer of `start`, at most for a time."""
        if self._sender is None or not self._is_beginning:
            return
        try:
            self._run_id, address = self._sender.receive(seconds)
        except Exception:
            self._sender = None
            raise
        self._is_beginning, self.address = False, hide_passwords(address)

    def log(self, folder: RunFolder) -> None:
        """Adds the figures, tables and images of the finished run, and its verdict as description."""
        with log_tracking_errors("the results are not logged in full"):
            collect(folder, self._pending, self._price)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the run as finished, failed or killed, and sends all unsent data."""
        was_stopped = error is not None and not isinstance(error, Exception)
        self._pending.status = "KILLED" if was_stopped else "FAILED" if error is not None else "FINISHED"
        self._pending.end = now_in_milliseconds()
        if error is not None:
            self._pending.tags["error"] = hide_passwords(
                "".join(traceback.format_exception(error))[-ERROR_LENGTH:]
            )
        self._pending.write(self._folder)
        self._receive_begin(SECONDS_WHEN_STOPPED if was_stopped else None)
        if self._sender is None:
            return
        if self._run_id:
            consequence = NOT_SENT if error is None else NOT_ENDED
            environment = TIMEOUTS_WHEN_STOPPED if was_stopped else {}
            where = self._folder, self._pending.addresses, self._run_id
            self._sender.ask("finish", *where, consequence, environment=environment)
            self._sender.receive()
        give_back(self._sender)
