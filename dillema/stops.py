"""How the command ends when Ctrl-C, SIGTERM or SIGHUP asks it to. Imports nothing that takes time."""

import os
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_CODES = tuple(128 + signal_number for signal_number in SIGNALS)
STOPPED = "Stopped. What is finished is kept: the same command goes on from here."
_asked: list[int] = []  # the signals so far


class Stopped(KeyboardInterrupt):
    """The process was asked to end by a signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.exit_code = 128 + signal_number


def handle_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Sets what these signals do, except those that the caller has switched off, as nohup does."""
    for signal_number in SIGNALS:
        if signal.getsignal(signal_number) is not signal.SIG_IGN:
            signal.signal(signal_number, handler)


def end_at_once(signal_number: int, frame: FrameType | None) -> None:
    """Ends the process: while Python imports, an exception may be lost or end as a traceback."""
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(128 + signal_number)


def raise_stopped(signal_number: int, frame: FrameType | None) -> None:
    """Lets the work end in order."""
    _asked.append(signal_number)
    if signal_number == signal.SIGINT:
        signal.default_int_handler(signal_number, frame)
    raise Stopped(signal_number)


def stop_code(error: BaseException) -> int | None:
    """Returns the exit code of a process that was asked to end; None for an error of another origin.

    Libraries may have turned the exception of the signal into one of theirs.
    """
    if _asked:
        return 128 + _asked[0]
    return 130 if isinstance(error, KeyboardInterrupt) else None
