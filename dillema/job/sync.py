"""The job that tells MLflow later what runs could not tell it at the time."""

import logging
import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from omegaconf import DictConfig

from ..errors import UserError
from ..tracking import UNSENT, Note, absolute, connect, send, settle

log = logging.getLogger(__name__)


def sync(cfg: DictConfig, folders: Sequence[str]) -> None:
    """Sends what lies unsent in run folders, to where each run was to be tracked, and ends the runs of this machine that died.

    `folders` are patterns of the paths of run folders. Raises a UserError that names what could not be sent.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # nothing waits for this job, and a large file may take a server long
    waiting: dict[tuple[str, str], list[Path]] = {(absolute(cfg.tracking.uri), cfg.tracking.experiment): []}
    for path in sorted(path for pattern in folders for path in glob(f"{pattern}/{UNSENT}/run.json")):  # noqa: PTH207  # a Path takes no absolute pattern
        note = Note.read(folder := Path(path).parents[1])
        waiting.setdefault((note.uri, note.experiment), []).append(folder)
    lost = []
    for (uri, experiment), unsent in waiting.items():
        try:
            settle(connect(uri), experiment)
        except Exception as error:  # one answer for all its runs: each would wait for the server again
            lost.append(f"{uri} does not answer, and {len(unsent)} runs wait for it: {error}")
            continue
        for folder in unsent:
            try:
                log.info("%s: %s", folder, "sent" if not (folder / UNSENT).exists() or send(folder) else "left, for it has not ended, or not on this machine")
            except Exception as error:
                lost.append(f"{folder}: {type(error).__name__}: {error}")
    if lost:
        raise UserError("\n  ".join(["MLflow lacks these still; they are kept, and job=sync sends them later:", *lost]))
    log.info("MLflow has all there is.")
