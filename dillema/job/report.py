"""The job that writes the page of a finished run again."""

import logging

from omegaconf import DictConfig

from .. import report as page
from ..context import JobContext
from ..errors import UserError
from ..run_folder import RunFolder

log = logging.getLogger(__name__)


def check_inputs(cfg: DictConfig) -> None:
    """Raises a UserError if `run` names no finished run."""
    _open_run(cfg)


def report(context: JobContext) -> RunFolder:
    """Writes report.html into the run folder that `run` names, and returns that folder.

    Raises a UserError if `run` is not set.
    """
    folder = open_run(context)
    page.write(folder)
    log.info("Page: %s", folder.path / "report.html")
    return folder


def open_run(context: JobContext) -> RunFolder:
    """Returns the run folder that `run` names; raises a UserError if `run` is not set."""
    return _open_run(context.cfg)


def _open_run(cfg: DictConfig) -> RunFolder:
    if cfg.run is None:
        raise UserError("run: name the folder of a finished run, as in run=outputs/latest")
    return RunFolder.open(cfg.run)
