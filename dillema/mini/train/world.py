"""Rendered scenes on disk, as arrays that training reads through memory maps."""

import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from ...conditioning.detail import local_contrast
from ..caption import describe
from ..render import render
from ..scene import (
    COLOURS,
    HEIGHT,
    WIDTH,
    Appearance,
    Task,
    appearance_rng,
    sample_scene,
    scene_seed,
)

log = logging.getLogger(__name__)

PART_SIZE = 10  # scenes that a process renders before it says so on disk
WORKERS = max(1, (os.cpu_count() or 2) - 1)
LOG_SECONDS = 10.0
ARRAYS = ("images", "masks", "details")  # the last one of pairs only
PLACEBO_SHARE = 0.15  # of the pairs; a clear day whose source is the image itself
CLEAR_SOURCE_SHARE = 0.8  # of the other pairs; the rest have a source of any appearance


@dataclass(frozen=True)
class World:
    """Rendered scenes.

    Attributes:
        images: Shape (n, 160, 256, 3), uint8.
        masks: Class ids (n, 160, 256), uint8.
        rows: The attributes and the caption of each image.
        details: The local contrast (n, 160, 256), uint8, of another render of each scene: the source that the
            generator is given. None where the images are not paired with sources.
        seeds: The seed of each scene.
    """

    images: np.ndarray
    masks: np.ndarray
    rows: list[dict[str, str]]
    details: np.ndarray | None = None
    seeds: Sequence[int] = ()

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


def draw_pair(
    split: str, task: Task, index: int
) -> tuple[np.ndarray, np.ndarray, dict[str, str], np.ndarray]:
    """Returns image, mask and row of one scene, and the local contrast of its source.

    Sources are mostly clear days, as those of the product are; the colour of the nearest vehicle differs.
    """
    seed = scene_seed(split, task, index)
    rng = np.random.default_rng(seed + 11)
    clear_day = Appearance("clear", "daytime", str(rng.choice(COLOURS)))
    if rng.random() < PLACEBO_SHARE:
        image, mask, row = draw(split, task, index, clear_day)
        return image, mask, row, local_contrast(image)
    image, mask, row = draw(split, task, index)
    look = clear_day if rng.random() < CLEAR_SOURCE_SHARE else Appearance.sample(rng)
    source, _ = render(sample_scene(seed, task), look)
    return image, mask, row, local_contrast(source)


def draw_batch(rng: np.random.Generator, worlds: Sequence[World], size: int) -> list[tuple[int, int]]:
    """Returns pairs of a world and an image in it, drawn uniformly: first the worlds, then the images.

    They are in the order of the worlds.
    """
    return [(k, int(rng.integers(len(worlds[k])))) for k in sorted(rng.integers(len(worlds), size=size))]


def load_world(
    folder: Path,
    split: str,
    task: Task,
    count: int,
    appearance: Appearance | None = None,
    workers: int = WORKERS,
    paired: bool = False,
) -> World:
    """Returns `count` rendered scenes of a split; those that the folder does not hold yet are rendered."""
    name = f"{split}-{task}"
    if appearance:
        name += f"-{appearance.weather}-{appearance.time_of_day}"
    if paired:
        name += "-pairs"
    path = folder / f"{name}-{count}"
    path.mkdir(parents=True, exist_ok=True)
    arrays = ARRAYS if paired else ARRAYS[:2]
    for array in arrays:
        shape = (count, HEIGHT, WIDTH, 3) if array == "images" else (count, HEIGHT, WIDTH)
        if not (path / f"{array}.npy").exists():
            np.lib.format.open_memmap(path / f"{array}.npy", mode="w+", dtype=np.uint8, shape=shape)
    starts = [start for start in range(0, count, PART_SIZE) if not _rows_file(path, start).exists()]
    # spawned: a fork of a process in which torch has started its threads hangs
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = [
            pool.submit(
                _render_part, path, split, task, start, min(PART_SIZE, count - start), appearance, paired
            )
            for start in starts
        ]
        _wait(parts, path.name)
    lines = [line for file in sorted(path.glob("part-*.jsonl")) for line in file.read_text().splitlines()]
    # copied on write: torch takes no array that cannot be written
    loaded = {array: np.load(path / f"{array}.npy", mmap_mode="c") for array in arrays}
    seeds = [scene_seed(split, task, index) for index in range(len(lines))]
    return World(rows=[json.loads(line) for line in lines], seeds=seeds, **loaded)


def _render_part(
    path: Path,
    split: str,
    task: Task,
    start: int,
    count: int,
    appearance: Appearance | None,
    paired: bool,
) -> int:
    """Returns how many scenes it rendered into the arrays.

    The file of their rows comes last and says that they are there.
    """
    cv2.setNumThreads(1)
    arrays = [
        np.lib.format.open_memmap(path / f"{array}.npy", mode="r+")
        for array in (ARRAYS if paired else ARRAYS[:2])
    ]
    rows = []
    for index in range(start, start + count):
        image, mask, row, *detail = (
            draw_pair(split, task, index) if paired else draw(split, task, index, appearance)
        )
        for array, values in zip(arrays, (image, mask, *detail), strict=True):
            array[index] = values
        rows.append(row)
    _rows_file(path, start).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return count


def _wait(parts: list[Future[int]], name: str) -> None:
    """Waits for all parts, and logs how many scenes are rendered every LOG_SECONDS and at the end."""
    start = logged = time.monotonic()
    scenes = 0
    for k, part in enumerate(as_completed(parts), 1):
        scenes += part.result()
        now = time.monotonic()
        if k == len(parts) or now - logged >= LOG_SECONDS:
            log.info("%s: %d scenes, %.1f a second", name, scenes, scenes / (now - start))
            logged = now


def _rows_file(path: Path, start: int) -> Path:
    return path / f"part-{start:06}.jsonl"
