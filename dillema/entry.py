"""Runs a job in this process, without Hydra's command line."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from .config import build, compose, without_hydra
from .config_check import check, check_inputs
from .context import JobContext, group_options
from .errors import UserError, machine_errors
from .overrides import prepare
from .passwords import PasswordFormatter, hide_passwords_in_files
from .run_folder import RunFolder


def run_job(overrides: Sequence[str]) -> RunFolder:
    """Returns the run folder of a job, which holds no finished run for a shard; see `dillema.run`."""
    arguments = prepare(_check_overrides(overrides))
    try:
        composed = compose(arguments)
    except HydraException as error:
        raise UserError(str(error)) from error
    prepared = [argument for argument in arguments if not argument.startswith("hydra.")]
    OmegaConf.resolve(composed.hydra.run)
    check(composed)
    check_inputs(composed)
    folder = Path(composed.hydra.run.dir)
    cfg = without_hydra(composed)
    options = group_options(composed.hydra.runtime.choices)
    _write_settings(folder, cfg, composed.hydra, prepared)
    with _logging(folder), machine_errors():
        result = build(cfg.job)(JobContext(cfg, folder, tuple(prepared), options))
    return result if isinstance(result, RunFolder) else RunFolder(folder)


def _check_overrides(overrides: Sequence[str]) -> Sequence[str]:
    """Returns overrides; raises a UserError for what is no list of settings, and for flags."""
    if isinstance(overrides, str) or not all(isinstance(override, str) for override in overrides):
        raise UserError(
            "dillema.run takes a list of settings, as in dillema.run(['dataset.limit=24']), "
            f"not {overrides!r}"
        )
    if flags := [override for override in overrides if override.startswith("-")]:
        raise UserError(
            f"dillema.run takes no flags, such as {flags[0]}: for a sweep, call it once for each run"
        )
    return overrides


def _write_settings(folder: Path, cfg: DictConfig, hydra: DictConfig, overrides: Sequence[str]) -> None:
    """Writes the files that Hydra's command line would write to `.hydra/`."""
    target = folder / ".hydra"
    target.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, target / "config.yaml")
    OmegaConf.save(
        OmegaConf.create({"hydra": {"runtime": {"choices": hydra.runtime.choices}}}), target / "hydra.yaml"
    )
    OmegaConf.save(OmegaConf.create(list(overrides)), target / "overrides.yaml")
    hide_passwords_in_files(target.glob("*.yaml"))


@contextmanager
def _logging(folder: Path) -> Iterator[None]:
    """Writes the messages of a job to its folder, and to the screen if no other handler does."""
    logger = logging.getLogger("dillema")
    level = logger.level
    file = logging.FileHandler(folder / "dillema.log", mode="w", encoding="utf-8")
    file.setFormatter(PasswordFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers: list[logging.Handler] = [file]
    if not logger.hasHandlers():
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
        file.close()
