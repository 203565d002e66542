"""The training loop of all recipes: warm-up and cosine decay, averaged weights, checkpoints."""

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from ... import hub
from ...errors import UserError
from .muon import Muon, split

log = logging.getLogger(__name__)
Model = TypeVar("Model", bound=nn.Module)
Loss = Callable[[np.random.Generator, float], torch.Tensor]
"""Takes random numbers and the share of the training that is done, draws a batch and returns its loss."""

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ON_GPU = DEVICE.type == "cuda"
# processors that only emulate it are many times slower with it
HAS_BFLOAT16 = hub.placement(str(DEVICE), "auto")[1] == torch.bfloat16
WARM_UP_STEPS = 100
FINAL_RATE_SHARE = 0.02
CHECKPOINT_SECONDS = 60.0
LOG_SECONDS = 10.0


@dataclass(frozen=True)
class Limits:
    """How long a training lasts.

    Attributes:
        steps: How many steps; None for the number that the recipe knows.
        seconds: How long, preparation included, in place of a number of steps. The learning rate reaches its
            end at that time.
        start: When the seconds began.
    """

    steps: int | None = None
    seconds: float | None = None
    start: float = field(default_factory=time.monotonic)


AS_THE_RECIPE_SAYS = Limits()


@dataclass
class _Clock:
    """Tells which share of a training is done, by steps or by time.

    Attributes:
        steps: How many steps there are, where no time is set.
        end: When the training ends; None for one that is limited by steps.
        first_share: The share that earlier calls have done.
    """

    steps: int
    end: float | None
    first_share: float

    def __post_init__(self) -> None:
        self._start = time.monotonic()

    def share(self, step: int) -> float:
        """Returns the share that is done before a step, from 0 to 1."""
        if self.end is None:
            return min(1.0, step / self.steps)
        now = time.monotonic()
        if now >= self.end:
            return 1.0
        done = (now - self._start) / (self.end - self._start)
        return self.first_share + (1 - self.first_share) * done


@dataclass
class _Checkpoint:
    """What a training needs to resume."""

    path: Path
    model: nn.Module
    averaged: nn.Module
    optimisers: list[torch.optim.Optimizer]

    def restore(self) -> tuple[int, float]:
        """Returns the step to go on from, and the share that is done: 0 where there is no checkpoint."""
        if not self.path.exists():
            return 0, 0.0
        state = torch.load(self.path, map_location=DEVICE, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["mean"])
        for optimiser, values in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(values)
        log.info("%s: resumes at step %d", self.path.stem, state["step"])
        return int(state["step"]), float(state["share"])

    def save(self, step: int, share: float) -> None:
        """Writes the checkpoint whole, so that a crash leaves the old one or the new one."""
        state = {
            "model": self.model.state_dict(),
            "mean": self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": step,
            "share": share,
        }
        temporary = self.path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.path)


class _Progress:
    """Logs the mean loss and the speed every LOG_SECONDS, and at the end."""

    def __init__(self, name: str, step: int) -> None:
        self._name = name
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._step, self._time, self._sum = step, time.monotonic(), torch.zeros((), device=DEVICE)

    def add(self, loss: torch.Tensor, step: int, share: float) -> None:
        """Takes the loss of the step that ended, and the share that is done."""
        self._sum += loss.float()
        seconds, steps = time.monotonic() - self._time, step - self._step
        if share < 1 and seconds < LOG_SECONDS:
            return
        mean = self._sum.item() / steps
        log.info(
            "%s: step %d, %.0f %%, loss %.4f, %.3f s a step",
            self._name, step, 100 * share, mean, seconds / steps,
        )  # fmt: skip
        self._begin(step)


def fit(
    name: str,
    model: Model,
    loss: Loss,
    *,
    folder: Path,
    steps: int,
    lr: float,
    limits: Limits = AS_THE_RECIPE_SAYS,
    decay: float = 0.01,
    average: float = 0.999,
    muon: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Model:
    """Returns the model with its exponentially averaged weights after `steps` steps, or as `limits` says.

    The random numbers of `loss` depend on the step alone. A training that was interrupted resumes from
    `<folder>/<name>.pt`; one that is limited by steps sees the batches that it would have seen. Raises a
    UserError if the time is over before the first step.
    """
    model.to(DEVICE).train()
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices, others = split(model) if muon else ([], trainable)
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=lr, weight_decay=decay, betas=(0.9, 0.99), fused=ON_GPU)
    ]
    if muon:
        optimisers.append(Muon(matrices, lr=lr))
    checkpoint = _Checkpoint(folder / f"{name}.pt", model, averaged, optimisers)
    step, share = checkpoint.restore()
    end = None if limits.seconds is None else limits.start + limits.seconds
    clock, progress = _Clock(limits.steps or steps, end, share), _Progress(name, step)
    share, saved = clock.share(step), time.monotonic()
    if share >= 1 and step == 0:
        raise UserError(f"{name}: the {limits.seconds} seconds were over before its first step; give it more")
    while share < 1:
        for group in [group for optimiser in optimisers for group in optimiser.param_groups]:
            group["lr"] = _learning_rate(lr, step, share)
        torch.manual_seed(step)
        with mixed_precision():
            value = loss(np.random.default_rng(step), share)
        model.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(trainable, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        _update_average(averaged, model, decay=min(average, (step + 1) / (step + 10)))
        step += 1
        share = clock.share(step)
        progress.add(value.detach(), step, share)
        if share >= 1 or time.monotonic() - saved >= checkpoint_seconds:
            checkpoint.save(step, share)
            saved = time.monotonic()
    return averaged


def _learning_rate(lr: float, step: int, share: float) -> float:
    warm_up = min(1, (step + 1) / WARM_UP_STEPS)
    cosine = (1 + np.cos(np.pi * share)) / 2
    return float(lr * warm_up * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine))


@torch.no_grad()
def _update_average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    means: list[torch.Tensor] = [*averaged.parameters()]
    values: list[torch.Tensor] = [*model.parameters()]
    for mean, new in zip(averaged.buffers(), model.buffers(), strict=True):
        if mean.dtype.is_floating_point:
            means.append(mean)
            values.append(new)
        else:
            mean.copy_(new)
    torch._foreach_lerp_(means, values, 1 - decay)


def mixed_precision() -> torch.autocast:
    """Returns a context in which networks compute in bfloat16, if the device does."""
    return torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=HAS_BFLOAT16)


def on_device(array: np.ndarray) -> torch.Tensor:
    """Returns an array as a tensor, in the memory of the GPU where there is one."""
    return torch.from_numpy(array).to(DEVICE)


def gather(arrays: Sequence[torch.Tensor], picks: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Returns the picks of `draw_batch`, on the device, of arrays that each world has one of."""
    parts = []
    for k, array in enumerate(arrays):
        indices = torch.tensor([i for world, i in picks if world == k], dtype=torch.long)
        parts.append(array[indices.to(array.device)].to(DEVICE))
    with torch.autocast(DEVICE.type, enabled=False):  # which joins no arrays of float16 on a CPU
        return torch.cat(parts)


def pixels(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Returns float images (n, 3, h, w) in -1..1 from uint8 ones (n, h, w, 3)."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.array(images))
    values = images.to(DEVICE).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return values.contiguous(memory_format=torch.channels_last)
