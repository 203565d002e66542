"""DILLEMA: counterfactual images that test vision models, with labels that still hold."""

from collections.abc import Sequence

TYPE_CHECKING = False  # that of `typing`, whose import takes time before the command handles signals
if TYPE_CHECKING:
    from .run_folder import RunFolder

__version__ = "0.2.0"


def run(overrides: Sequence[str] = ()) -> "RunFolder":
    """Runs a job in this process, as `python -m dillema` does, and returns its run folder.

    Takes all jobs. `job=report` returns the folder of the run; that of a job that makes no run, such as
    `compare`, holds no results. Works in a notebook, in threads and inside of another application of Hydra,
    and leaves no state of Hydra behind. Raises a UserError for a mistake in the configuration, or when the
    machine lacks something that the run needs.
    """
    from .entry import run_job

    return run_job(overrides)
