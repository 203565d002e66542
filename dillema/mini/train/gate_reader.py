"""The classifier of weather, time and colour for the gate reader: `python -m dillema.mini.train.gate_reader`.

It must not agree with the benchmark's reader (a ResNet) by construction: it is another architecture (a
ConvNeXt) with another seed.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import ConvNextConfig, ConvNextForImageClassification

from .loop import DEVICE, fit, pixels
from .recognisers import ATTRIBUTES, jitter, save
from .world import World, load_world

SEED = 1
STREETS, VEHICLES = 5_000, 2_500  # renders of the split train, which take 4 minutes on a core


def convnext() -> ConvNextForImageClassification:
    """Returns an untrained ConvNeXt with one logit for each value of each attribute."""
    names = [value for values in ATTRIBUTES.values() for value in values]
    config = ConvNextConfig(
        patch_size=8,
        hidden_sizes=[32, 64, 128, 160],
        depths=[1, 1, 2, 1],
        layer_scale_init_value=0.0,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    return ConvNextForImageClassification(config)


def train(worlds: Sequence[World], folder: Path, target: Path, steps: int = 1_500, batch: int = 32) -> None:
    """Trains the classifier with the cross-entropy of each attribute and saves it to `target`."""
    torch.manual_seed(SEED)
    model = convnext()

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        rng = np.random.default_rng((SEED, int(rng.integers(2**31))))
        chosen = [worlds[k] for k in rng.integers(len(worlds), size=batch)]
        picks = [(world, int(rng.integers(len(world)))) for world in chosen]
        images = jitter([world.images[index] for world, index in picks], rng)
        logits = model(pixel_values=pixels(images)).logits.float()
        losses = []
        parts = logits.split([len(values) for values in ATTRIBUTES.values()], 1)
        for (attribute, values), part in zip(ATTRIBUTES.items(), parts, strict=True):
            truth = [values.index(world.rows[index][attribute]) for world, index in picks]
            losses.append(F.cross_entropy(part, torch.tensor(truth, device=DEVICE)))
        return torch.stack(losses).sum()

    save(fit("gate_reader", model, loss, folder=folder, steps=steps, lr=2e-3, average=0.99), target)


def main() -> None:
    """Renders what is missing, and trains the classifier, going on from the checkpoint of an earlier call."""
    weights = Path(__file__).parent.parent / "weights"
    parser = argparse.ArgumentParser(prog="python -m dillema.mini.train.gate_reader")
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/training"), help="renders and checkpoints"
    )
    parser.add_argument("--target", type=Path, default=weights / "gate_reader", help="where the weights go")
    parser.add_argument("--steps", type=int, default=1_500)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    worlds = [
        load_world(folder, "train", "street", STREETS),
        load_world(folder, "train", "vehicle", VEHICLES),
    ]
    train(worlds, folder, arguments.target, arguments.steps)


if __name__ == "__main__":
    main()
