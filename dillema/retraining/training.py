"""Trains a model under test further with Lightning.

All arms take the same number of steps from the same weights, on different images of the same sources.
"""

import logging
import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from .. import hub
from ..backend import Dataset
from ..errors import UserError
from ..evaluation import interrupts
from ..execution.batch import is_memory_error
from ..image_size import in_equal_sizes
from ..task import Task, Truth, get_task
from .augmentation import augment

log = logging.getLogger(__name__)

Batch = list[tuple[Image.Image, Truth]]

WARM_UP = 0.1  # share of the steps over which the learning rate rises from 0
SECONDS_BETWEEN_LINES = 30  # of the log, where there is no terminal


@dataclass(frozen=True)
class Source:
    """Functions that read a labelled image, its truth, and its valid counterfactuals; all are of one size."""

    image: Callable[[], Image.Image]
    truth: Callable[[], Truth]
    counterfactuals: Sequence[Callable[[], Image.Image]]


@dataclass(frozen=True)
class Schedule:
    """The training settings of all arms.

    Attributes:
        steps: Steps of the optimiser (AdamW; Loshchilov and Hutter, ICLR 2019).
        batch_size: Images a step.
        learning_rate: The largest learning rate: it rises to this and falls to 0 along a cosine.
        share: The share of the images (0 to 1) that an arm replaces, if it replaces any.
    """

    steps: int
    batch_size: int
    learning_rate: float
    share: float


@dataclass
class TrainingStatistics:
    """The statistics of a training.

    Attributes:
        steps: Steps of the optimiser.
        seconds: The time of the training.
        drawn: How many images of each kind were drawn.
        loss: The mean loss of the first steps and of the last.
    """

    steps: int
    seconds: float
    drawn: dict[str, int]
    loss: tuple[float, float]


class Batches(IterableDataset[Batch]):
    """The batches of one arm (originals, augmentation, counterfactuals); `drawn` counts images by kind.

    The seed selects the sources of a step, and which of them are altered, in the same way for all arms, so
    that arms differ only in the images.
    """

    def __init__(
        self, sources: Sequence[Source], arm: str, schedule: Schedule, task: Task, seed: int
    ) -> None:
        self.sources, self.arm, self.schedule, self.task, self.seed = sources, arm, schedule, task, seed
        self.drawn: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.schedule.steps

    def __iter__(self) -> Iterator[Batch]:
        size = self.schedule.batch_size
        for step in range(self.schedule.steps):
            random = np.random.default_rng((self.seed, step))
            indices, altered = (
                random.integers(len(self.sources), size=size),
                random.random(size) < self.schedule.share,
            )
            seeds = random.integers(2**31, size=size)
            yield [
                self._draw(self.sources[i], alter, int(seed))
                for i, alter, seed in zip(indices, altered, seeds, strict=True)
            ]

    def _draw(self, source: Source, alter: bool, seed: int) -> tuple[Image.Image, Truth]:
        """Returns the image and the truth of a source, altered for the arm."""
        image, truth, kind = source.image(), source.truth(), "originals"
        if alter and self.arm == "augmentation":
            (image, truth), kind = augment(image, truth, self.task, seed), "augmented"
        elif alter and self.arm == "counterfactuals" and source.counterfactuals:
            image, kind = source.counterfactuals[seed % len(source.counterfactuals)](), "counterfactuals"
        self.drawn[kind] += 1
        return image, truth


class Training(L.LightningModule):
    """Trains a model with the loss of the task."""

    def __init__(self, model: Any, dataset: Dataset, schedule: Schedule) -> None:
        super().__init__()
        self.model, self.dataset, self.schedule = model, dataset, schedule
        self.network = model.module.float().train()
        self.task = get_task(dataset.task)
        self.losses: list[Tensor] = []
        self.start = self.last_line = time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Returns the loss of a batch.

        Raises a UserError if it is NaN, because the weights would become NaN, too.
        """
        images, truths = zip(*batch, strict=True)
        sizes = [image.size for image in images]
        logits = (
            self.model.logits(images)
            if len({*sizes}) == 1
            else in_equal_sizes(self.model.logits, images, sizes)
        )
        loss = self.task.loss(logits, truths, self.dataset.ignored)
        if not loss.isfinite():
            raise self.divergence(f"the loss of step {index} is {loss.item()}")
        self.losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        """Logs the progress of the training from time to time, where there is no progress bar."""
        now, done = time.perf_counter(), index + 1
        if now - self.last_line > SECONDS_BETWEEN_LINES and not sys.stderr.isatty():
            left = (now - self.start) / done * (self.schedule.steps - done)
            loss = self.losses[-1].item()
            log.info("training: step %d of %d, loss %.3f, %.0f s left", done, self.schedule.steps, loss, left)
            self.last_line = now

    def divergence(self, sign: str) -> UserError:
        """Returns the error for a training that diverged."""
        return UserError(f"training {self.model.name} diverged: {sign}. Set job.learning_rate lower")

    def configure_optimizers(self) -> Any:
        """Returns AdamW and its schedule."""
        trainable = [weights for weights in self.network.parameters() if weights.requires_grad]
        optimiser = torch.optim.AdamW(trainable, self.schedule.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        warm_up = max(1, round(WARM_UP * self.schedule.steps))
        return min(1.0, (step + 1) / warm_up) * (1 + math.cos(math.pi * step / self.schedule.steps)) / 2


def train(
    model: Any, sources: Sequence[Source], dataset: Dataset, arm: str, schedule: Schedule, seed: int
) -> TrainingStatistics:
    """Trains a loaded model on the images of an arm.

    Raises a UserError if the training diverges or does not fit into the memory.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = next(model.module.parameters()).device
    trainer = _trainer(device)
    batches = Batches(sources, arm, schedule, get_task(dataset.task), seed)
    training = Training(model, dataset, schedule)
    torch.manual_seed(seed)  # for dropout and similar layers
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice about worker processes
        try:
            with interrupts():
                trainer.fit(training, DataLoader(batches, batch_size=None, collate_fn=list))
        except (RuntimeError, MemoryError) as error:
            if is_memory_error(error):
                raise UserError(
                    f"training {model.name} takes more memory than there is. "
                    "Set job.batch_size lower: all arms are then trained with it"
                ) from error
            raise
    model.module.to(device)  # Lightning leaves it on the CPU
    if not all(weights.isfinite().all() for weights in model.module.parameters()):
        raise training.divergence("the last step left weights that are no numbers")
    losses, count = torch.stack(training.losses), max(1, round(WARM_UP * schedule.steps))
    first, last = losses[:count].mean().item(), losses[-count:].mean().item()
    seconds = round(time.perf_counter() - start, 1)
    return TrainingStatistics(trainer.global_step, seconds, dict(batches.drawn), (first, last))


def _trainer(device: torch.device) -> L.Trainer:
    _, precision = hub.placement(device.type, "auto")
    return L.Trainer(
        max_epochs=1,
        accelerator=device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision="bf16-mixed" if precision is torch.bfloat16 else "32-true",
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
    )
