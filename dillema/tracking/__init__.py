"""Copies the content of run folders to MLflow.

An error here never ends a run, and an unreachable server never delays one. The data for MLflow stays in the
folder `unsent` of the run folder until MLflow has all of it. So nothing is lost if the server is unreachable
or the process is killed: `job=sync` sends it later.

No other package imports mlflow.
"""

from .client import absolute, connect
from .pending import UNSENT, PendingRun
from .run import TrackedRun, open_run, track
from .sender import prepare_sender
from .sending import close_dead_runs, send

__all__ = [
    "UNSENT",
    "PendingRun",
    "TrackedRun",
    "absolute",
    "close_dead_runs",
    "connect",
    "open_run",
    "prepare_sender",
    "send",
    "track",
]
