"""The links beside the folders of the days: `latest`, and `running` while a run goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import temporary_path
from ..run_folder import RESULTS


def point_latest(folder: Path, instead_of_finished: bool = True) -> None:
    """Lets the link `latest`, which lies beside the folders of the days, point at a run.

    Args:
        folder: The run folder.
        instead_of_finished: Whether a finished run has to give way; it does not to a run that goes on.
    """
    latest = folder.absolute().parent.parent / "latest"
    if instead_of_finished or not (latest / RESULTS).exists():
        _point(latest, folder)


@contextmanager
def point_running(folder: Path) -> Iterator[None]:
    """Lets the link `running`, beside `latest`, point at a run during this block.

    Of two runs at the same time it points at the one that began last.
    """
    running = folder.absolute().parent.parent / "running"
    _point(running, folder)
    try:
        yield
    finally:
        if running.is_symlink() and running.resolve() == folder.resolve():
            running.unlink(missing_ok=True)


def _point(name: Path, folder: Path) -> None:
    """Lets a link point at a run folder that lies in a folder of a day; leaves other files alone."""
    if name.parent.name in ("outputs", "multirun") and (name.is_symlink() or not name.exists()):
        temporary = temporary_path(name)
        temporary.symlink_to(folder.absolute().relative_to(name.parent))
        temporary.replace(name)
