"""The kinds of error: the user's or the machine's, one item's, and (any other exception) ours."""


class UserError(Exception):
    """A mistake of the user's, or something that the machine lacks.

    The message alone is shown, and says what, where and what to do.
    """


class ItemError(Exception):
    """What is wrong with one item.

    It is recorded with the raw reply, if there is one, and the run goes on.
    """

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.raw = raw


class NoWeights(UserError):
    """Weights are neither on this machine nor to be had.

    Where the message is shown, job=prefetch is added.
    """
