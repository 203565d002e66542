"""The kinds of error: the user's, one item's, and (any other exception) ours."""

from hydra.errors import CompactHydraException


class UserError(CompactHydraException):
    """A mistake of the user's: the message alone is shown, and says what, where and what to do."""


class ItemError(Exception):
    """What went wrong with one item; it is recorded with the raw reply, if any, and the run goes on."""

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.raw = raw


class NoWeights(UserError):
    """Weights that are neither on this machine nor to be had; the command that fetches them is added where the message is shown."""
