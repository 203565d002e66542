"""The training loop that all recipes share: warm-up and cosine decay, averaged weights, checkpoints to go on from."""

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

log = logging.getLogger(__name__)
Model = TypeVar("Model", bound=nn.Module)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    name: str,
    model: Model,
    loss: Callable[[np.random.Generator, int], torch.Tensor],
    *,
    folder: Path,
    steps: int,
    lr: float,
    decay: float = 0.01,
    average: float = 0.999,
    every: int = 250,
) -> Model:
    """Returns the model with its exponentially averaged weights after `steps` steps.

    `loss(rng, step)` draws its batch from a generator that depends on the step alone, so a run that was cut off
    and goes on from `<folder>/<name>.pt` sees the batches it would have seen.
    """
    model.to(DEVICE).train()
    mean = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=decay, betas=(0.9, 0.99))
    path, start = folder / f"{name}.pt", 0
    if path.exists():
        state = torch.load(path, map_location=DEVICE, weights_only=True)
        model.load_state_dict(state["model"])
        mean.load_state_dict(state["mean"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
        log.info("%s: goes on from step %d", name, start)
    began, total = time.monotonic(), 0.0
    for step in range(start, steps):
        rate = float(lr * min(1, (step + 1) / 100) * (0.02 + 0.49 * (1 + np.cos(np.pi * step / steps))))
        for group in optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(step)
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            value = loss(np.random.default_rng((step, steps)), step)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        keep = min(average, (step + 1) / (step + 10))
        with torch.no_grad():
            for old, new in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
                if old.dtype.is_floating_point:
                    old.lerp_(new.float(), 1 - keep)
                else:
                    old.copy_(new)
        total += value.item()
        if (step + 1) % every == 0 or step + 1 == steps:
            seconds = (time.monotonic() - began) / (step + 1 - start)
            log.info("%s: step %d of %d, loss %.4f, %.3f s a step", name, step + 1, steps, total / ((step - start) % every + 1), seconds)
            total = 0.0
            state = {"model": model.state_dict(), "mean": mean.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            torch.save(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
    return mean


def pixels(images: np.ndarray) -> torch.Tensor:
    """Returns float images (n, 3, h, w) in -1..1 from uint8 ones (n, h, w, 3)."""
    return torch.from_numpy(np.array(images)).to(DEVICE).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
