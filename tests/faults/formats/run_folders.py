"""The files of a finished run, read by job=report and job=judge."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dillema.context import JobContext
from dillema.job.judge import judge
from dillema.job.report import report
from dillema.run_folder import RunFolder
from dillema.types import Counterfactual, Edit

from ..damage import BYTES, JSON, PATHS, TEXT
from ..format import Format

GOLDEN = Path(__file__).parents[2] / "golden"
GATE = {"brightness": {"_target_": "tests.backends.Gate", "least": 0.497}}


def _write(task: str, folder: Path) -> None:
    shutil.copytree(GOLDEN / task, folder / "run")
    for path in (folder / "run").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    run = RunFolder(folder / "run")
    content = {name: value for name, value in run.results.items() if name != "version"}
    run.write_results(content)  # as this version writes it
    hydra = folder / "run" / ".hydra"
    hydra.mkdir()
    OmegaConf.save(
        OmegaConf.create({"validity": GATE, "seed": 0, "tracking": {"price_per_hour": 1.5}}),
        hydra / "config.yaml",
    )
    choices = {"hydra": {"runtime": {"choices": {"dataset": "folder", "validity": "image"}}}}
    OmegaConf.save(OmegaConf.create(choices), hydra / "hydra.yaml")
    OmegaConf.save(OmegaConf.create(["dataset=folder", "seed=0"]), hydra / "overrides.yaml")
    report(_context(folder, folder / "run"))  # also writes origin.json
    shutil.rmtree(folder / "run" / "report" / "images", ignore_errors=True)  # small copies of the images


def _context(folder: Path, target: Path) -> JobContext:
    cfg = OmegaConf.create({"run": str(folder / "run"), "validity": GATE, "name": "again"})
    target.mkdir(exist_ok=True)
    return JobContext(cfg, target)


def _read(folder: Path) -> Any:
    """Writes the page of a run, judges it again, and returns its figures and the texts of its images."""
    run = report(_context(folder, folder / "run"))
    page = (folder / "run" / "report.html").read_text()
    assert "<script>alert(1)" not in page, "markup of a file is in the page"
    judged = judge(_context(folder, folder / "judged"))
    kept = {
        name: run.results[name]
        for name in ("dataset", "task", "classes", "colours", "counts", "gates", "models")
    }
    return {
        "results": json.dumps(kept),
        "judged": json.dumps(judged.results["models"]),
        "images": [
            (image.id, image.caption.text, image.counterfactual, image.label) for image in run.generated()
        ],
        "placebos": [(image.id, image.source) for image in run.placebos()],
        "failures": run.failures(),
    }


def _lines(folder: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in (folder / "run" / name).read_text(encoding="utf-8-sig").splitlines()]


def _parse(name: str, folder: Path) -> Any:
    """Returns what a damage of a file without checksums makes of it, if that is another valid file."""
    good = folder.with_name("parsed")
    shutil.rmtree(good, ignore_errors=True)
    _write("segmentation", good)
    expected = _read(good)
    if name == "failures.jsonl":
        expected["failures"] = _lines(folder, name)
    elif name == "generated/metadata.jsonl":
        rows = [(row, [Edit(**edit) for edit in row["edits"]]) for row in _lines(folder, name)]
        expected["images"] = [
            (
                Path(row["file_name"]).stem,
                row["caption"],
                Counterfactual(
                    row["counterfactual"], tuple(edits), row["method"] or "", row["alternatives"] or {}
                ),
                {name: row[name] for name in row["label_columns"]},
            )
            for row, edits in rows
        ]
    return expected


FILES = {
    "results.json": BYTES | TEXT | PATHS | JSON,
    "predictions.parquet": BYTES | PATHS,
    "generated/metadata.jsonl": BYTES | TEXT | PATHS | JSON,
    "failures.jsonl": BYTES | TEXT | PATHS | JSON,
    "generated/images/scene-0_0.png": BYTES | PATHS,
    ".hydra/config.yaml": BYTES | TEXT | PATHS,
    ".hydra/hydra.yaml": BYTES | TEXT | PATHS,
    ".hydra/overrides.yaml": BYTES | TEXT | PATHS,
    "report/origin.json": BYTES | TEXT | PATHS | JSON,
}

FORMATS = [
    Format(
        f"run folder, {name}",
        f"run/{name}",
        partial(_write, "segmentation"),
        _read,
        damages,
        partial(_parse, name),
    )
    for name, damages in FILES.items()
]
