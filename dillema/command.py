"""The command after its imports: composes a configuration, checks it, and runs its job."""

import atexit
import logging
import os
import shutil
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from dillema.config import build, compose, conf_dir, refuse
from dillema.config_check import check, check_inputs, list_mistakes
from dillema.context import JobContext
from dillema.errors import NoWeights, UserError, machine_errors
from dillema.overrides import choose_values, describe_options, prefetch_command, prepare
from dillema.passwords import hide_passwords, hide_passwords_in_files
from dillema.stops import STOP_CODES, STOPPED, handle_signals, raise_stopped, stop_code

log = logging.getLogger("dillema")

OWN_FILES = (".hydra", "dillema.log")  # which Hydra writes to the folder of every job
SWEEP_FLAGS = ("-m", "--multirun")
SECONDS_TO_CLEAN_UP = 1.0  # of libraries, when the run was stopped
TRACKED_JOBS = ("run", "retrain", "merge")


class SweepError(CompactHydraException):
    """A UserError of a run in a sweep. Hydra shows only its message, at the end of the sweep."""


def run_command() -> None:
    """Runs the command of this process, and ends the process as `dillema.__main__.main` says."""
    handle_signals(raise_stopped)
    try:
        if sys.argv[1:2] == ["init"]:
            from dillema.init import init

            return init(sys.argv[2:])
        if sys.argv[1:] in (["--help"], ["-h"]):
            return print(describe_options())
        sys.argv[1:] = prepare(sys.argv[1:])
        _prepare_tracking(sys.argv[1:])
        _check_early(sys.argv[1:])
        run_hydra()
    except (KeyboardInterrupt, UserError) as error:  # before the job itself, also while Hydra prepares it
        if code := stop_code(error):
            print(STOPPED, file=sys.stderr)
            _end_stopped(code)
        sys.exit(hide_passwords(f"{error}"))
    except SystemExit as error:
        if error.code in STOP_CODES:  # of the job
            _end_stopped(error.code)
        raise


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def run_hydra(cfg: DictConfig) -> float | None:
    """Runs the job of a configuration that Hydra has composed; returns what a sweeper searches for."""
    is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    _hide_passwords(HydraConfig.get())
    try:
        if is_sweep:
            check(cfg)
        _keep_pandas_out()
        with machine_errors():
            folder = build(cfg.job)(JobContext.from_hydra(cfg))
        return None if cfg.objective is None else float(folder.figure(cfg.objective))
    except (KeyboardInterrupt, Exception) as error:
        if code := stop_code(error):
            log.error(STOPPED)
            sys.exit(code)
        is_ours = not isinstance(error, UserError) or os.environ.get("HYDRA_FULL_ERROR") == "1"
        log.error(error, exc_info=is_ours)
        if isinstance(error, NoWeights):
            log.error(
                "This command fetches everything that the run needs: %s",
                prefetch_command(HydraConfig.get().overrides.task),
            )
        if isinstance(error, UserError) and not is_sweep:
            _remove_if_empty(Path(HydraConfig.get().runtime.output_dir))
        if is_sweep:
            # sys.exit would end the other runs of the sweep, too; Hydra raises this error again at the end
            raise SweepError(str(error)) from error
        sys.exit(1)


def _hide_passwords(hydra: HydraConf) -> None:
    """Replaces the passwords in the files that Hydra has written about a job and its sweep."""
    settings = Path(hydra.runtime.output_dir, hydra.output_subdir or "")
    hide_passwords_in_files([*settings.glob("*.yaml"), Path(hydra.sweep.dir, "multirun.yaml")])


def _prepare_tracking(arguments: list[str]) -> None:
    """Starts the process that talks to MLflow if a run begins: it takes as long as the rest of the start."""
    jobs = ["run", *(argument.partition("=")[2] for argument in arguments if argument.startswith("job="))]
    others = [argument for argument in arguments if argument not in SWEEP_FLAGS]
    is_tracked = not any(argument.startswith(("-", "shard=")) for argument in others)
    if jobs[-1] in TRACKED_JOBS and is_tracked:
        from dillema.tracking.sender import prepare_sender

        prepare_sender()


class _NoPandas:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _keep_pandas_out() -> None:
    """Lets pyarrow make its first array, at which it imports pandas: 0.3 s, to know data frames from lists.

    Whoever imports pandas later, and converts to it, can.
    """
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        import pyarrow

        pyarrow.scalar(0)
    finally:
        sys.meta_path.remove(_NoPandas)


def _check_early(arguments: list[str]) -> None:
    """Checks the configurations of a run or of a sweep before Hydra makes a folder."""
    overrides = [argument for argument in arguments if argument not in SWEEP_FLAGS]
    if any(argument.startswith("-") for argument in overrides):
        return  # without a run, or with --config-dir: Hydra composes the configuration, and the check follows
    mistakes: dict[str, None] = {}
    for single in choose_values(overrides) if len(overrides) < len(arguments) else [overrides]:
        try:
            cfg = compose(single)
        except (HydraException, CompactHydraException):
            return  # Hydra composes the configuration again and shows its own message
        mistakes |= dict.fromkeys(list_mistakes(cfg))
        if not mistakes:
            check_inputs(cfg)
    refuse(list(mistakes))


def _remove_if_empty(folder: Path) -> None:
    """Removes the folder of a job that failed if the job wrote nothing to it but its log and settings."""
    is_working_folder = folder.resolve() == Path.cwd()  # hydra.run.dir=.
    if not is_working_folder and all(file.name in OWN_FILES for file in folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # other jobs of this day have folders
            folder.parent.rmdir()


def _end_stopped(code: int) -> NoReturn:
    """Ends the process soon, after work that was stopped.

    Libraries clean up (atexit), for a second at most. Python's own end is left out: it waits for threads and
    frees gigabytes piece by piece, which takes many seconds where other programs use the processor.
    """
    timer = threading.Timer(SECONDS_TO_CLEAN_UP, os._exit, [code])
    timer.daemon = True
    timer.start()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
            stream.flush()
    os._exit(code)
