"""The kinds of error: of the user or the machine, and of one item. Any other exception is a bug."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MACHINE_ERRORS = (*FULL_DISK, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


MESSAGE_LENGTH = 5_000  # characters; a message may quote a text from outside that is much longer


class UserError(Exception):
    """A mistake of the user, or something that the machine lacks.

    Only the message is shown. It says what is wrong, where, and what to do.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shorten(message, MESSAGE_LENGTH))


class ItemError(Exception):
    """One item cannot be processed. The error is recorded for the item, and the run goes on.

    Attributes:
        raw: The raw reply of the model, if there was one.
    """

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(shorten(message, MESSAGE_LENGTH))
        self.raw = raw


class NoWeights(UserError):
    """Weights are not on this machine and cannot be downloaded.

    The command also shows how job=prefetch fetches them.

    Attributes:
        reason: Why, in a few words for a list; "" where only the message says it.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@contextmanager
def machine_errors() -> Iterator[None]:
    """Turns an error of the machine, such as a full disk, into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        raise UserError(
            f"the machine cannot go on: {error}. Finished work is kept; make room and repeat the command"
        ) from error


def shorten(text: str, length: int) -> str:
    """Returns a text for a message; of a longer one the beginning, and how long it is."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"
