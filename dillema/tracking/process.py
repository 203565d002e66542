"""Identifies the process of a run, so that a later process can detect that it died."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path


def host_name() -> str:
    """Returns the names of this machine and its process table, because containers may share only one."""
    table = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {table.readlink() if table.is_symlink() else ''}".strip()


def process_tags() -> dict[str, str]:
    """Returns the tags that identify this process."""
    process = os.getpid()
    return {"dillema.host": host_name(), "dillema.pid": str(process), "dillema.started": _start_time(process)}


def process_died(tags: Mapping[str, str]) -> bool:
    """Returns whether the process of these tags ran on this machine and has ended."""
    start = tags["dillema.started"]
    return (
        tags["dillema.host"] == host_name() and start != "" and start != _start_time(int(tags["dillema.pid"]))
    )


def _start_time(process: int) -> str:
    """Returns when a process of this machine started, in clock ticks.

    Returns "" if there is no such process, or on systems other than Linux.
    """
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "XZ" else rest[18]
