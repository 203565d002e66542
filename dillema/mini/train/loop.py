"""The training loop of all recipes: warm-up and cosine decay, averaged weights, checkpoints."""

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

log = logging.getLogger(__name__)
Model = TypeVar("Model", bound=nn.Module)
Loss = Callable[[np.random.Generator, int], torch.Tensor]
"""Takes random numbers and the step, draws a batch and returns its loss."""

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WARM_UP_STEPS = 100
FINAL_RATE_SHARE = 0.02


@dataclass
class _Checkpoint:
    """What a training needs to resume."""

    path: Path
    model: nn.Module
    averaged: nn.Module
    optimiser: torch.optim.Optimizer

    def restore(self) -> int:
        """Returns the step to go on from: 0 where there is no checkpoint."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, map_location=DEVICE, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        log.info("%s: resumes at step %d", self.path.stem, state["step"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Writes the checkpoint whole, so that a crash leaves the old one or the new one."""
        state = {
            "model": self.model.state_dict(),
            "mean": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": step,
        }
        temporary = self.path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.path)


def fit(
    name: str,
    model: Model,
    loss: Loss,
    *,
    folder: Path,
    steps: int,
    lr: float,
    decay: float = 0.01,
    average: float = 0.999,
    checkpoint_interval: int = 250,
) -> Model:
    """Returns the model with its exponentially averaged weights after `steps` steps.

    The random numbers of `loss` depend on the step alone. A training that was interrupted resumes from
    `<folder>/<name>.pt` and sees the batches that it would have seen.
    """
    model.to(DEVICE).train()
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=lr, weight_decay=decay, betas=(0.9, 0.99))
    checkpoint = _Checkpoint(folder / f"{name}.pt", model, averaged, optimiser)
    first_step = checkpoint.restore()
    start_time = time.monotonic()
    losses: list[float] = []
    for step in range(first_step, steps):
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(lr, step, steps)
        torch.manual_seed(step)
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            value = loss(np.random.default_rng((step, steps)), step)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        _update_average(averaged, model, decay=min(average, (step + 1) / (step + 10)))
        losses.append(value.item())
        steps_done = step + 1
        if steps_done % checkpoint_interval == 0 or steps_done == steps:
            seconds = (time.monotonic() - start_time) / (steps_done - first_step)
            mean_loss = sum(losses) / len(losses)
            log.info(
                "%s: step %d of %d, loss %.4f, %.3f s a step", name, steps_done, steps, mean_loss, seconds
            )
            losses.clear()
            checkpoint.save(steps_done)
    return averaged


def _learning_rate(lr: float, step: int, steps: int) -> float:
    warm_up = min(1, (step + 1) / WARM_UP_STEPS)
    cosine = (1 + np.cos(np.pi * step / steps)) / 2
    return float(lr * warm_up * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine))


@torch.no_grad()
def _update_average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, new in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(new.float(), 1 - decay)
        else:
            mean.copy_(new)


def pixels(images: np.ndarray) -> torch.Tensor:
    """Returns float images (n, 3, h, w) in -1..1 from uint8 ones (n, h, w, 3)."""
    on_device = torch.from_numpy(np.array(images)).to(DEVICE).permute(0, 3, 1, 2)
    return on_device.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
