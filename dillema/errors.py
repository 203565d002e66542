"""The kinds of error: of the user or the machine, and of one item. Any other exception is a bug."""


class UserError(Exception):
    """A mistake of the user, or something that the machine lacks.

    Only the message is shown. It says what is wrong, where, and what to do.
    """


class ItemError(Exception):
    """One item cannot be processed. The error is recorded for the item, and the run goes on.

    Attributes:
        raw: The raw reply of the model, if there was one.
    """

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.raw = raw


class NoWeights(UserError):
    """Weights are not on this machine and cannot be downloaded.

    The command also shows how job=prefetch fetches them.
    """
