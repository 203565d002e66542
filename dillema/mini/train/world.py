"""Rendered scenes on disk, as arrays that training reads through memory maps."""

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from ..caption import describe
from ..render import render
from ..scene import HEIGHT, WIDTH, Appearance, Task, appearance_rng, sample_scene, scene_seed

PART_SIZE = 500  # scenes that a process renders before it says so on disk


@dataclass(frozen=True)
class World:
    """Images (n, 160, 256, 3) and masks (n, 160, 256), uint8; rows hold their attributes and captions."""

    images: np.ndarray
    masks: np.ndarray
    rows: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.rows)


def draw(
    split: str, task: Task, index: int, appearance: Appearance | None = None
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Returns image, mask and row of one scene.

    Weather and time of day are those of `appearance`, or are drawn with the scene; the colour always is.
    """
    seed = scene_seed(split, task, index)
    scene, rng = sample_scene(seed, task), appearance_rng(seed)
    look = Appearance.sample(rng)
    if appearance:
        look = Appearance(appearance.weather, appearance.time_of_day, look.colour)
    image, mask = render(scene, look)
    row = {**asdict(look), "kind": scene.kind, "task": task, "caption": describe(scene, look, task, rng)}
    return image, mask, row


def draw_batch(rng: np.random.Generator, worlds: Sequence[World], size: int) -> list[tuple[int, int]]:
    """Returns pairs of a world and an image in it, drawn uniformly: first the worlds, then the images."""
    return [(k, int(rng.integers(len(worlds[k])))) for k in rng.integers(len(worlds), size=size)]


def load_world(
    folder: Path, split: str, task: Task, count: int, appearance: Appearance | None = None, workers: int = 2
) -> World:
    """Returns `count` rendered scenes of a split; those that the folder does not hold yet are rendered."""
    name = f"{split}-{task}"
    if appearance:
        name += f"-{appearance.weather}-{appearance.time_of_day}"
    path = folder / f"{name}-{count}"
    path.mkdir(parents=True, exist_ok=True)
    for array, shape in (("images", (count, HEIGHT, WIDTH, 3)), ("masks", (count, HEIGHT, WIDTH))):
        if not (path / f"{array}.npy").exists():
            np.lib.format.open_memmap(path / f"{array}.npy", mode="w+", dtype=np.uint8, shape=shape)
    starts = [start for start in range(0, count, PART_SIZE) if not _rows_file(path, start).exists()]
    # spawned: a fork of a process in which torch has started its threads hangs
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = [
            pool.submit(_render_part, path, split, task, start, min(PART_SIZE, count - start), appearance)
            for start in starts
        ]
        for part in parts:
            part.result()
    lines = [line for file in sorted(path.glob("rows-*.jsonl")) for line in file.read_text().splitlines()]
    images, masks = (np.load(path / f"{array}.npy", mmap_mode="r") for array in ("images", "masks"))
    return World(images, masks, [json.loads(line) for line in lines])


def _render_part(
    path: Path, split: str, task: Task, start: int, count: int, appearance: Appearance | None
) -> None:
    """Renders some scenes into the arrays; the file of their rows comes last and says that they are there."""
    cv2.setNumThreads(1)
    examples = [draw(split, task, index, appearance) for index in range(start, start + count)]
    images, masks = (
        np.lib.format.open_memmap(path / f"{array}.npy", mode="r+") for array in ("images", "masks")
    )
    images[start : start + count] = np.stack([image for image, _, _ in examples])
    masks[start : start + count] = np.stack([mask for _, mask, _ in examples])
    _rows_file(path, start).write_text("".join(json.dumps(row) + "\n" for _, _, row in examples))


def _rows_file(path: Path, start: int) -> Path:
    return path / f"rows-{start:06}.jsonl"
