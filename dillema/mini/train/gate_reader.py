"""The classifier of weather, time and colour for the gate reader: `python -m dillema.mini.train.gate_reader`.

It must not agree with the benchmark's reader (a ResNet) by construction: it is another architecture with
another seed.
"""

import argparse
import logging
from pathlib import Path

import torch
from transformers import ConvNextConfig, ConvNextForImageClassification

from .recognisers import READER_ATTRIBUTES, train_classifier
from .world import load_world

SEED = 1
STREET_COUNT, VEHICLE_COUNT = 12_000, 5_000  # the renders of the other recipes


def convnext(labels: int) -> ConvNextForImageClassification:
    """Returns an untrained ConvNeXt of 0.5 million parameters."""
    return ConvNextForImageClassification(
        ConvNextConfig(
            patch_size=4,
            hidden_sizes=[16, 48, 96, 160],
            depths=[1, 1, 2, 1],
            layer_scale_init_value=0.0,
            num_labels=labels,
        )
    )


def main() -> None:
    """Renders what is missing, and trains the classifier, going on from the checkpoint of an earlier call."""
    parser = argparse.ArgumentParser(prog="python -m dillema.mini.train.gate_reader")
    weights = Path(__file__).parent.parent / "weights"
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/training"), help="renders and checkpoints"
    )
    parser.add_argument("--target", type=Path, default=weights / "gate_reader", help="where the weights go")
    parser.add_argument("--steps", type=int, default=2_400)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    worlds = [
        load_world(folder, "train", "street", STREET_COUNT),
        load_world(folder, "train", "vehicle", VEHICLE_COUNT),
    ]
    torch.manual_seed(SEED)
    target: Path = arguments.target
    train_classifier(
        "gate_reader", READER_ATTRIBUTES, worlds, folder, target, arguments.steps, build=convnext
    )


if __name__ == "__main__":
    main()
