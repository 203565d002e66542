"""Measures what the project promises about the small world.

Writes benchmark.json and benchmark.md into a folder: one row for each promise, with its bar and the result.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig

from ...config import compose
from ...files import write_atomically
from .gates import measure_gates, plot_curves
from .harmful import measure_harmful
from .images import measure_generator
from .language import measure_captioner, measure_language_model
from .placebo import measure_placebo
from .rows import Row
from .runs import measure_runs

PARTS: dict[str, Callable[[DictConfig], Iterator[Row]]] = {
    "runs": measure_runs,
    "captioner": measure_captioner,
    "language_model": measure_language_model,
    "generator": measure_generator,
    "placebo": measure_placebo,
    "gates": measure_gates,
    "harmful": measure_harmful,
}
LONG = ("harmful",)  # parts that are measured only when they are asked for


def main() -> None:
    """Measures the parts that were asked for; prints their rows and writes the table after each."""
    parser = argparse.ArgumentParser(
        prog="python -m dillema.mini.benchmark",
        description="Measures the default run and the models of the small world.",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=[part for part in PARTS if part not in LONG],
        help="which parts to measure (all but harmful, by default, take about 30 minutes)",
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cfg = compose([])
    rows: list[Row] = []
    for part in args.only:
        for row in PARTS[part](cfg):
            rows.append(row)
            print(f"{row.name}: {row.measured} (bar: {row.bar})", flush=True)
            _write(args.out, rows)


def _write(folder: Path, rows: Sequence[Row]) -> None:
    machine = _describe_machine()
    content = {"machine": machine, "rows": [asdict(row) for row in rows]}
    write_atomically(folder / "benchmark.json", json.dumps(content, indent=2))
    words = {True: "yes", False: "**no**", None: ""}
    lines = [f"| {r.name} | {r.method} | {r.measured} | {r.bar} | {words[r.met]} |" for r in rows]
    table = ["| what | how measured | measured | bar | met |", "|---|---|---|---|---|", *lines]
    pictures = ["", "![Precision and recall of each gate](gates.png)"] if plot_curves(rows, folder) else []
    write_atomically(
        folder / "benchmark.md", "\n".join([*table, *pictures, "", f"Measured on {machine}.", ""])
    )


def _describe_machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = platform.python_version()
    return f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GB, Python {python}"


if __name__ == "__main__":
    main()
