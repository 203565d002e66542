"""The process that talks to MLflow, so that neither its imports nor its answers delay a run."""

import atexit
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from .client import connect, run_address
from .pending import PendingRun, lock_folder
from .sending import begin_run, close_dead_runs, finish_run, log_tracking_errors

NOT_STARTED = "the run starts without tracking"
SERVE = """
import sys
sys.path[:] = sys.argv[2:]
from dillema.tracking.sender import serve
serve(int(sys.argv[1]))
"""


class Sender:
    """A process that answers questions one after the other. It ends with the process that started it.

    It is in a session of its own: neither Ctrl-C nor the end of the terminal ends it before MLflow knows how
    the run ended.
    """

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(theirs.fileno()), *sys.path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def ask(self, question: str, *arguments: Any, environment: Mapping[str, str] | None = None) -> None:
        """Sends a question, `begin` or `finish`, with its arguments and changes of the environment."""
        self._connection.send((question, arguments, {**os.environ, **(environment or {})}))

    def receive(self, seconds: float | None = None) -> Any:
        """Returns the answer, and repeats what the process has logged.

        Raises a TimeoutError where there is no answer within a time, and ends the process; an EOFError where
        the process has died.
        """
        if not self._connection.poll(seconds):
            self.process.kill()
            raise TimeoutError("MLflow is not connected yet")
        try:
            answer, records = self._connection.recv()
        except (EOFError, OSError) as error:
            raise EOFError(f"the process that sends to MLflow ended with {self.process.wait()}") from error
        except BaseException:  # part of the answer is lost
            self.process.kill()
            raise
        for name, level, message in records:
            logging.getLogger(name).log(level, "%s", message)
        return answer


_idle: list[Sender] = []  # the runs of a sweep use one after the other, so that MLflow is imported once


def take_sender() -> Sender:
    """Returns a process that no other run uses."""
    while _idle:
        sender = _idle.pop()
        if sender.process.poll() is None:
            return sender
    return Sender()


def give_back(sender: Sender) -> None:
    """Keeps a process for the next run."""
    _idle.append(sender)


def prepare_sender() -> None:
    """Starts a process for a run that is about to begin."""
    with log_tracking_errors(NOT_STARTED):
        give_back(take_sender())


@atexit.register
def _end_idle() -> None:
    for sender in _idle:
        sender.process.kill()


os.register_at_fork(after_in_child=_idle.clear)


def serve(descriptor: int) -> None:
    """Answers the questions of the process that started this one, until that ends."""
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)
    collector = _Collector()
    logging.basicConfig(level=logging.WARNING, handlers=[collector])
    with suppress(Exception):  # `connect` meets the same error and says it
        import mlflow  # noqa: F401
    questions: dict[str, Callable[..., Any]] = {"begin": _begin, "finish": _finish}
    with Connection(descriptor) as connection, suppress(EOFError, ConnectionError):
        while True:
            question, arguments, environment = connection.recv()
            os.environ.clear()
            os.environ.update(environment)
            answer = questions[question](*arguments)
            connection.send((answer, collector.take()))


class _Collector(logging.Handler):
    """Keeps messages for the process that asks."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append((record.name, record.levelno, record.getMessage()))

    def take(self) -> list[tuple[str, int, str]]:
        """Returns the messages since the last call, with the names of their loggers and their levels."""
        records, self._records = self._records, []
        return records


def _begin(folder: Path, addresses: Sequence[str]) -> tuple[str, str]:
    """Returns the id of the run of a folder and the link to it; creates the run, and ends dead ones.

    `addresses` are those of the run, with their passwords.
    """
    run_id = address = ""
    with log_tracking_errors(NOT_STARTED):
        pending = PendingRun.read(folder, addresses)
        client = connect(pending.uri)
        run_id = begin_run(client, folder, pending)
        experiment_id = client.get_run(run_id).info.experiment_id
        address = run_address(pending.uri, experiment_id, run_id)
        close_dead_runs(client, pending.experiment, addresses)
    return run_id, address


def _finish(folder: Path, addresses: Sequence[str], run_id: str, consequence: str) -> None:
    """Sends the unsent data of a folder, and ends its run; an error is logged with its consequence."""
    with log_tracking_errors(consequence), lock_folder(folder):
        pending = PendingRun.read(folder, addresses)
        finish_run(connect(pending.uri), folder, pending, run_id)
