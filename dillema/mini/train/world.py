"""Rendered scenes on disk, as arrays that training reads through memory maps."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from ..caption import describe
from ..render import render
from ..scene import HEIGHT, WIDTH, Appearance, Task, sample_scene, seed_of

PART = 500


@dataclass(frozen=True)
class World:
    """Images (n, 160, 256, 3) and masks (n, 160, 256), uint8, with one row of facts and a caption for each."""

    images: np.ndarray
    masks: np.ndarray
    rows: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.rows)


def draw(split: str, task: Task, index: int, appearance: Appearance | None = None) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Returns image, mask and facts of one scene; the appearance is drawn with the scene unless it is given."""
    seed = seed_of(split, task, index)
    scene, rng = sample_scene(seed, task), np.random.default_rng(seed + 7)
    drawn = Appearance.sample(rng)
    look = Appearance(appearance.weather, appearance.time_of_day, drawn.colour) if appearance else drawn
    image, mask = render(scene, look)
    return image, mask, {**asdict(look), "kind": scene.kind, "task": task, "caption": describe(scene, look, task, rng)}


def _draw_part(path: Path, split: str, task: Task, start: int, count: int, appearance: Appearance | None) -> None:
    cv2.setNumThreads(1)
    drawn = [draw(split, task, i, appearance) for i in range(start, start + count)]
    images, masks = (np.lib.format.open_memmap(path / f"{name}.npy", mode="r+") for name in ("images", "masks"))
    images[start : start + count] = np.stack([d[0] for d in drawn])
    masks[start : start + count] = np.stack([d[1] for d in drawn])
    (path / f"rows-{start:06}.jsonl").write_text("".join(json.dumps(d[2]) + "\n" for d in drawn))


def load_world(folder: Path, split: str, task: Task, count: int, appearance: Appearance | None = None, workers: int = 2) -> World:
    """Returns `count` rendered scenes of a split, rendering whatever the folder does not hold yet."""
    name = f"{split}-{task}" + (f"-{appearance.weather}-{appearance.time_of_day}" if appearance else "")
    path = folder / f"{name}-{count}"
    path.mkdir(parents=True, exist_ok=True)
    for array, shape in (("images", (count, HEIGHT, WIDTH, 3)), ("masks", (count, HEIGHT, WIDTH))):
        if not (path / f"{array}.npy").exists():
            np.lib.format.open_memmap(path / f"{array}.npy", mode="w+", dtype=np.uint8, shape=shape)
    starts = [s for s in range(0, count, PART) if not (path / f"rows-{s:06}.jsonl").exists()]
    # spawned: a fork of a process in which torch has started its threads hangs
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_draw_part, path, split, task, s, min(PART, count - s), appearance) for s in starts]
        for job in jobs:
            job.result()
    rows = [json.loads(line) for part in sorted(path.glob("rows-*.jsonl")) for line in part.read_text().splitlines()]
    return World(np.load(path / "images.npy", mmap_mode="r"), np.load(path / "masks.npy", mmap_mode="r"), rows)
