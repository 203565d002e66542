"""A model under test, trained further by Lightning: the same steps from the same weights in every arm, on other pictures of the same sources."""

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
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from .. import hub
from ..errors import UserError
from ..stage import QUIET
from ..types import Dataset
from .augmentation import augmented

log = logging.getLogger(__name__)

Batch = list[tuple[Image.Image, int | np.ndarray]]

WARM = 0.1  # of the steps: the learning rate rises from 0


@dataclass(frozen=True)
class Source:
    """What reads a labelled image, its label or mask (as large as the image), and its valid counterfactuals, as large as it."""

    image: Callable[[], Image.Image]
    truth: Callable[[], int | np.ndarray]
    counterfactuals: Sequence[Callable[[], Image.Image]]


@dataclass(frozen=True)
class Course:
    """How all arms are trained: so many steps of so many images, of which `share` (0 to 1) are altered in the arms that have something to alter them with.

    The learning rate rises to `learning_rate` and falls to 0 along a cosine (AdamW; Loshchilov and Hutter, ICLR 2019).
    """

    steps: int
    batch_size: int
    learning_rate: float
    share: float


@dataclass
class Trained:
    """What a training took: steps of the optimiser, seconds, how many images of each kind were drawn, and the mean loss of its first and of its last steps."""

    steps: int
    seconds: float
    drawn: dict[str, int]
    loss: tuple[float, float]


class Batches(IterableDataset[Batch]):
    """The batches of one arm (originals, augmentation, counterfactuals); `drawn` counts the images of each kind.

    The seed decides which sources a step sees, and which of them are altered, in the same way for all arms: these differ in the pictures alone.
    """

    def __init__(self, sources: Sequence[Source], arm: str, course: Course, seed: int) -> None:
        self.sources, self.arm, self.course, self.seed = sources, arm, course, seed
        self.drawn: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.course.steps

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.course.steps):
            random, size = np.random.default_rng((self.seed, step)), self.course.batch_size
            places, altered = random.integers(len(self.sources), size=size), random.random(size) < self.course.share
            yield [
                self._one(self.sources[i], change, int(number)) for i, change, number in zip(places, altered, random.integers(2**31, size=size), strict=True)
            ]

    def _one(self, source: Source, change: bool, number: int) -> tuple[Image.Image, int | np.ndarray]:
        """Returns the image and the truth of a source, altered as the arm does it."""
        image, truth, kind = source.image(), source.truth(), "originals"
        if change and self.arm == "augmentation":
            (image, truth), kind = augmented(image, truth, number), "augmented"
        elif change and self.arm == "counterfactuals" and source.counterfactuals:
            image, kind = source.counterfactuals[number % len(source.counterfactuals)](), "counterfactuals"
        self.drawn[kind] += 1
        return image, truth


class Training(L.LightningModule):
    """Trains a model with cross-entropy over the classes that it knows and the data set scores."""

    def __init__(self, model: Any, dataset: Dataset, course: Course) -> None:
        super().__init__()
        self.model, self.course = model, course
        self.network = model.module.float().train()
        self.ignored = torch.tensor(sorted(dataset.ignored), dtype=torch.long)
        self.losses: list[Tensor] = []
        self.start = self.spoken = time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Returns the loss of a batch; raises a UserError when it is no number, for the weights would be none either."""
        images, truths = zip(*batch, strict=True)
        logits = self.model.logits(images)
        logits = logits if isinstance(logits, Tensor) else torch.stack(logits)
        wanted = torch.from_numpy(np.stack(truths).astype(np.int64)).to(logits.device)
        scored = (wanted < logits.shape[1]) & ~torch.isin(wanted, self.ignored.to(wanted.device))
        loss = F.cross_entropy(logits, wanted.where(scored, -100), reduction="sum") / scored.sum().clamp_min(1)
        if not loss.isfinite():
            raise self.astray(f"the loss of step {index} is {loss.item()}")
        self.losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        """Says how far the training is, now and then, where no bar shows it."""
        now, done = time.perf_counter(), index + 1
        if now - self.spoken > QUIET and not sys.stderr.isatty():
            left = (now - self.start) / done * (self.course.steps - done)
            log.info("training: step %d of %d, loss %.3f, %.0f s left", done, self.course.steps, self.losses[-1].item(), left)
            self.spoken = now

    def astray(self, sign: str) -> UserError:
        """Returns the error of a training whose numbers are none any more."""
        return UserError(f"training {self.model.name} went astray: {sign}. Set job.learning_rate lower")

    def configure_optimizers(self) -> Any:
        """Returns AdamW and its schedule."""
        optimiser = torch.optim.AdamW([p for p in self.network.parameters() if p.requires_grad], self.course.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        warm = max(1, round(WARM * self.course.steps))
        return min(1.0, (step + 1) / warm) * (1 + math.cos(math.pi * step / self.course.steps)) / 2


def train(model: Any, sources: Sequence[Source], dataset: Dataset, arm: str, course: Course, seed: int) -> Trained:
    """Trains a model, which is loaded, on the pictures of an arm."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = next(model.module.parameters()).device
    _, numbers = hub.placement(device.type, "auto")
    trainer = L.Trainer(
        max_epochs=1,
        accelerator=device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision="bf16-mixed" if numbers is torch.bfloat16 else "32-true",
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
    )
    batches, training = Batches(sources, arm, course, seed), Training(model, dataset, course)
    torch.manual_seed(seed)  # of dropout and its like
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice about worker processes
        try:
            trainer.fit(training, DataLoader(batches, batch_size=None, collate_fn=list))
        except SystemExit as end:  # what Lightning makes of Ctrl+C
            raise KeyboardInterrupt from end
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):  # of a GPU, of this machine
                raise UserError(f"training {model.name} takes more memory than there is. Set job.batch_size lower: all arms are then trained so") from error
            raise
    if not all(weights.isfinite().all() for weights in model.module.parameters()):
        raise training.astray("the last step left weights that are no numbers")
    losses, few = torch.stack(training.losses), max(1, round(WARM * course.steps))
    drawn = dict(batches.drawn)
    return Trained(trainer.global_step, round(time.perf_counter() - start, 1), drawn, (losses[:few].mean().item(), losses[-few:].mean().item()))
