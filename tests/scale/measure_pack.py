"""Measures PNG files against tar files: `python -m tests.scale.measure_pack --images 100000 FOLDER`.

Writes a generated set of small images, packs it, and reads both in order and the tar files with webdataset.
Prints JSON: images a second and the number of files.
"""

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from omegaconf import OmegaConf
from PIL import Image

from dillema.context import JobContext
from dillema.job.pack import pack
from dillema.run_folder import RESULTS_VERSION

SIZE = 32
ROW = {
    "label": 3,
    "label_name": "car",
    "label_columns": ["label", "label_name"],
    "source": "scene",
    "group": "",
    "caption": "a clear day on a street with a car",
    "counterfactual": "a foggy day on a street with a car",
    "edits": [{"attribute": "weather", "original": "clear", "replacement": "foggy", "phrase": ""}],
    "valid": True,
    "record": "0" * 64,
}


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    arguments = parser.parse_args()
    folder, count = arguments.folder, arguments.images
    context = JobContext(OmegaConf.create({"run": str(folder / "run")}), folder / "packed")
    rates = {"write png": write_files(folder / "run", count)}
    start = time.perf_counter()
    packed = pack(context, 10_000)
    rates["pack"] = count / (time.perf_counter() - start)
    print(rates, flush=True)
    files = sorted(map(str, packed.glob("generated/*.tar")))
    rates["read tar with webdataset"] = read_packed(files, count)
    print(rates, flush=True)
    rates["read png"] = read_files(folder / "run", count)
    figures: dict[str, Any] = {"images a second": {name: round(rate) for name, rate in rates.items()}}
    figures["files"] = {"png": count, "tar": len(files)}
    print(json.dumps(figures))


def write_files(folder: Path, count: int) -> float:
    """Writes a run folder with images; returns images a second."""
    images = folder / "generated" / "images"
    images.mkdir(parents=True)
    (folder / "placebo").mkdir()
    (folder / "results.json").write_text(json.dumps({"version": RESULTS_VERSION}))
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(content, "PNG")
    start = time.perf_counter()
    with (folder / "generated" / "metadata.jsonl").open("w") as lines:
        for index in range(count):
            name = f"images/scene-{index:07}_0.png"
            (folder / "generated" / name).write_bytes(content.getvalue())
            lines.write(json.dumps({"file_name": name, **ROW}) + "\n")
    return count / (time.perf_counter() - start)


def read_files(folder: Path, count: int) -> float:
    """Reads and decodes the files in the order of metadata.jsonl; returns images a second."""
    start = time.perf_counter()
    with (folder / "generated" / "metadata.jsonl").open() as lines:
        for line in lines:
            np.asarray(Image.open(folder / "generated" / json.loads(line)["file_name"]))
    return count / (time.perf_counter() - start)


def read_packed(files: list[str], count: int) -> float:
    """Reads and decodes what is packed; returns images a second."""
    start = time.perf_counter()
    read = sum(1 for _ in webdataset.WebDataset(files, shardshuffle=False).decode("rgb8"))
    assert read == count
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
