"""Starts many commands quickly: a process that has imported everything forks one child for each."""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SMALL = (
    f"hydra.searchpath=[file://{Path(__file__).parent / 'conf'}]",
    "dataset=noise",
    "captioner=small",
    "prompt=small",
    "conditioning=small",
    "generator=small",
    "validity=small",
    "model=small",
    "counterfactuals=2",
)
"""The overrides for a run of small back-ends, which need the real store, tracking, page and signals."""


@dataclass
class Command:
    """A command that was started; `output` is what it has written to the screen so far."""

    server: "Commands"
    pid: int
    file: Path

    @property
    def output(self) -> str:
        return self.file.read_text(errors="replace")

    def send(self, signal_number: int) -> None:
        """Sends a signal to the command."""
        os.kill(self.pid, signal_number)

    def wait(self, seconds: float = 120) -> int:
        """Returns the exit code; the negative number of the signal that ended it. Kills it after a time."""
        return int(self.server.ask({"wait": self.pid, "seconds": seconds})["code"])


class Commands:
    """A process that starts commands."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from tests.faults.commands import serve; serve()"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.count = 0

    def ask(self, question: dict[str, Any]) -> Any:
        """Returns the answer of the process."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, folder: Path, *arguments: str, **environment: str) -> Command:
        """Starts `dillema` with arguments in a folder."""
        self.count += 1
        file = folder / f"screen-{self.count}"
        file.touch()
        question = {
            "folder": str(folder),
            "arguments": arguments,
            "environment": environment,
            "screen": str(file),
        }
        return Command(self, self.ask(question)["pid"], file)

    def run(self, folder: Path, *arguments: str, **environment: str) -> str:
        """Returns the output of a command that must succeed."""
        command = self.start(folder, *arguments, **environment)
        code = command.wait()
        assert code == 0, command.output
        return command.output


@contextmanager
def started() -> Iterator[Commands]:
    """Yields a process that starts commands, and ends it."""
    commands = Commands()
    try:
        yield commands
    finally:
        commands.process.kill()
        commands.process.wait()


def serve() -> None:
    """Answers questions from the standard input: starts commands, and waits for them."""
    import lightning  # noqa: F401
    import torch

    import dillema.command
    import dillema.evaluation
    import dillema.job.compare
    import dillema.job.judge
    import dillema.job.retrain
    import dillema.job.run  # noqa: F401
    import tests.backends  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            print(json.dumps({"code": _wait(question["wait"], question["seconds"])}), flush=True)
        elif pid := os.fork():
            print(json.dumps({"pid": pid}), flush=True)
        else:
            _become_command(**question)


def _wait(pid: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 999


def _become_command(folder: str, arguments: list[str], environment: dict[str, str], screen: str) -> None:
    """Runs the command in this process, as `python -m dillema` does, and ends the process."""
    import dillema.__main__

    code: Any = 0
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.update(environment)
        with open(screen, "w") as file, open(os.devnull) as null:  # noqa: PTH123
            os.dup2(null.fileno(), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = ["dillema", *arguments]
        dillema.__main__.main()
    except SystemExit as error:
        code = error.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code or 0))
