"""The runs in MLflow: a copy of what run folders hold.

No error here ends a run, and no server that is away delays one.

Everything that MLflow is to receive about a run is kept in the folder `unsent` of its run folder until MLflow
has all of it. Neither a server that is away nor a process that is killed loses anything: `job=sync` sends it
later.

No other package imports mlflow.
"""

from .client import absolute, connect
from .pending import UNSENT, PendingRun
from .run import TrackedRun, open_run, track
from .sending import close_dead_runs, send

__all__ = [
    "UNSENT",
    "PendingRun",
    "TrackedRun",
    "absolute",
    "close_dead_runs",
    "connect",
    "open_run",
    "send",
    "track",
]
