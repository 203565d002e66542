"""Starts the command. Signals are handled before its imports, which take a while."""

from .stops import end_at_once, handle_signals


def main() -> None:
    """Runs the command.

    Ends with exit code 1 and the reason on the screen when the job fails, 130 when it is stopped.
    """
    handle_signals(end_at_once)
    from .command import run_command

    run_command()


if __name__ == "__main__":
    main()
