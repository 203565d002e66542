"""The page that a person reads, from a run folder alone."""

from ..run_folder import PREVIEW, RunFolder
from . import retraining, words
from .page import write_failed, write_page
from .preview import Preview

__all__ = ["Preview", "words", "write", "write_failed"]


def write(folder: RunFolder) -> None:
    """Writes report.html into a run folder.

    It is one file that needs no other, up to thumbnails.EMBEDDED_BYTES of images; the images beyond that lie
    beside it in report/, where small copies of all images stay for the next time.
    """
    if any("retraining" in figures for figures in folder.results["models"].values()):
        retraining.write_page(folder)
    else:
        write_page(folder)
    (folder.path / PREVIEW).unlink(missing_ok=True)
