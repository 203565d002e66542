"""Links the files of folders, in a process of its own: Python's lock would halt the one that starts it.

Reads pairs of existing folders, JSON, from the standard input; its argument is the name of the files that it
leaves out. It needs nothing but the standard library.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

CHUNK = 500  # files that are linked one after the other


def link_or_copy(source: str, target: str, names: Sequence[str]) -> None:
    """Links files into another folder; copies them to another disk."""
    for name in names:
        try:
            os.link(f"{source}/{name}", f"{target}/{name}")
        except OSError:
            shutil.copy(f"{source}/{name}", f"{target}/{name}")


def main() -> None:
    """Links the files of all folders; ends with exit code 1 and the reason where one cannot be copied."""
    parts, kept = [], sys.argv[1]
    try:
        for source, target in json.load(sys.stdin):
            names = [entry.name for entry in os.scandir(source) if not entry.is_dir() and entry.name != kept]
            parts += [(source, target, names[i : i + CHUNK]) for i in range(0, len(names), CHUNK)]
        with ThreadPoolExecutor() as pool:  # which waits for the disk
            list(pool.map(link_or_copy, *zip(*parts, strict=True)))
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
