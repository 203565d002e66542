"""Trains the models of the small world: `python -m dillema.mini.train [MODEL ...]`."""

import argparse
import logging
from pathlib import Path
from typing import Any

import torch

from ..scene import Appearance, Task
from . import captioner, diffusion, recognisers
from .loop import AS_THE_RECIPE_SAYS, Limits
from .world import WORKERS, World, load_world

MODELS = (
    "renders",
    "generator",
    "captioner",
    "segmenter",
    "judge",
    "classifier",
    "reader",
    "gate_reader",
)
SCENES = 17000
CLEAR_DAY = Appearance("clear", "daytime", "")
CLEAR_DAYS = 4000  # scenes of each kind


def main() -> None:
    """Trains the models named (all by default); those that an earlier call left unfinished are resumed."""
    parser = argparse.ArgumentParser(
        prog="python -m dillema.mini.train", description="Trains the models of the small world."
    )
    parser.add_argument(
        "models",
        nargs="*",
        choices=[*MODELS, []],  # argparse checks the empty list, too
        metavar="MODEL",
        help=f"what to train (default: all), of {', '.join(MODELS)}; `renders` only renders the scenes",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("outputs/training"),
        help="renders and checkpoints (about 4 GB)",
    )
    parser.add_argument(
        "--target", type=Path, default=Path(__file__).parent.parent / "weights", help="where the weights go"
    )
    parser.add_argument(
        "--start", type=Path, help="a folder of weights that the generator and the captioner begin with"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--steps", type=int, help="steps of each model, for a trial; each recipe knows how many it needs"
    )
    length.add_argument("--seconds", type=float, help="seconds for each model, in place of a number of steps")
    parser.add_argument(
        "--scenes",
        type=int,
        default=SCENES,
        help=f"how many scenes generator and captioner are trained on (default: {SCENES})",
    )
    parser.add_argument(
        "--workers", type=int, default=WORKERS, help=f"how many processes render them (default: {WORKERS})"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    args.folder.mkdir(parents=True, exist_ok=True)
    for model in args.models or MODELS:
        limits = Limits(args.steps, args.seconds)
        train_model(model, args.folder, args.target, limits, args.scenes, args.workers, args.start)


def train_model(
    model: str,
    folder: Path,
    target: Path,
    limits: Limits = AS_THE_RECIPE_SAYS,
    scenes: int = SCENES,
    workers: int = WORKERS,
    start: Path | None = None,
) -> None:
    """Trains one model; generator and captioner begin with the weights of their names in `start`."""
    output = target / model
    first_weights = start / model if start else None
    options: dict[str, Any] = {"limits": limits}
    match model:
        case "renders":
            _pairs(folder, scenes, workers)
        case "generator":
            diffusion.train(_pairs(folder, scenes, workers), folder, output, first_weights, **options)
        case "captioner":
            worlds = [
                *_pairs(folder, scenes, workers),
                *_clear_days(folder, "vehicle", min(scenes, CLEAR_DAYS)),
            ]
            captioner.train(worlds, folder, output, first_weights, **options)
        case "segmenter":
            worlds = _clear_days(folder, "street")
            recognisers.train_segmenter(model, recognisers.segformer, worlds, folder, output, **options)
        case "judge":
            worlds = _all_conditions(folder)
            recognisers.train_segmenter(model, recognisers.upernet, worlds, folder, output, **options)
        case "classifier":
            worlds, attributes = _clear_days(folder, "vehicle"), recognisers.CLASSIFIER_ATTRIBUTES
            recognisers.train_classifier(model, attributes, worlds, folder, output, **options)
        case "reader":
            worlds, attributes = _all_conditions(folder), recognisers.READER_ATTRIBUTES
            recognisers.train_classifier(model, attributes, worlds, folder, output, **options)
        case "gate_reader":
            # another architecture and seed: it must not agree with the benchmark's reader by construction
            torch.manual_seed(1)
            worlds, attributes = _all_conditions(folder, 5000, 2500), recognisers.READER_ATTRIBUTES
            recognisers.train_classifier(
                model,
                attributes,
                worlds,
                folder,
                output,
                steps=2000,
                build=recognisers.convnext,
                **options,
            )


def _pairs(folder: Path, scenes: int, workers: int) -> list[World]:
    """Returns images with their sources; nearly three quarters of them are streets."""
    vehicles = max(1, round(0.28 * scenes))
    counts: dict[Task, int] = {"street": scenes - vehicles, "vehicle": vehicles}
    return [
        load_world(folder, "train", task, count, workers=workers, paired=True)
        for task, count in counts.items()
    ]


def _all_conditions(folder: Path, streets: int = 12000, vehicles: int = 5000) -> list[World]:
    return [load_world(folder, "train", "street", streets), load_world(folder, "train", "vehicle", vehicles)]


def _clear_days(folder: Path, task: Task, count: int = CLEAR_DAYS) -> list[World]:
    """Returns what the models under test are trained on, or a part of it."""
    return [load_world(folder, "train", task, count, CLEAR_DAY)]


if __name__ == "__main__":
    main()
