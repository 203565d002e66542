"""The job that sends to MLflow what earlier runs could not send."""

import logging
import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from ..context import JobContext
from ..errors import UserError
from ..passwords import hide_passwords, lacks_password
from ..tracking.client import ADDRESS_VARIABLE, absolute, artifact_location, connect
from ..tracking.pending import UNSENT, PendingRun
from ..tracking.sending import close_dead_runs, send

log = logging.getLogger(__name__)


def sync(context: JobContext, folders: Sequence[str]) -> None:
    """Sends the unsent data of run folders to MLflow, and ends the MLflow runs of processes that died.

    Args:
        context: Its settings name the MLflow server whose dead runs are ended.
        folders: Patterns of the paths of run folders.

    Raises a UserError that lists the data that could not be sent.
    """
    # a server may need long for a large file, and no user waits for this job
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    tracking = context.cfg.tracking
    addresses = [absolute(tracking.uri), artifact_location(tracking.artifacts)]
    waiting: dict[tuple[str, str], list[Path]] = {(addresses[0], tracking.experiment): []}
    addresses.append(os.environ.get(ADDRESS_VARIABLE, ""))
    for folder in _find_folders(folders):
        pending = PendingRun.read(folder, addresses)
        waiting.setdefault((pending.uri, pending.experiment), []).append(folder)
    failures = []
    for (uri, experiment), waiting_folders in waiting.items():
        try:
            close_dead_runs(connect(uri), experiment, addresses)
        except Exception as error:  # one message for all runs of a server
            count = len(waiting_folders)
            waits = f"{uri} does not answer, and {count} runs wait for it"
            reason = f"{count} runs wait" if lacks_password(uri) else waits
            failures.append(hide_passwords(f"{reason}: {error}"))
            continue
        for folder in waiting_folders:
            try:
                log.info("%s: %s", folder, _send_folder(folder, addresses))
            except Exception as error:
                failures.append(hide_passwords(f"{folder}: {type(error).__name__}: {error}"))
    if failures:
        message = "MLflow does not have these yet; they are kept, and job=sync sends them later:"
        raise UserError("\n  ".join([message, *failures]))
    log.info("MLflow has everything.")


def _find_folders(patterns: Sequence[str]) -> list[Path]:
    """Returns the run folders with unsent data."""
    files: set[str] = set()
    for pattern in patterns:
        files.update(glob(f"{pattern}/{UNSENT}/run.json"))  # noqa: PTH207  # Path.glob: no absolute path
    return [Path(file).parents[1] for file in sorted(files)]


def _send_folder(folder: Path, addresses: Sequence[str]) -> str:
    """Sends the unsent data of a run folder; returns the outcome in words."""
    if not (folder / UNSENT).exists() or send(folder, addresses):
        return "sent"
    return "left as it is: the run has not ended, or was not started on this machine"
