"""A model under test, run over images by Lightning: one record an image, and nothing else kept."""

import json
import logging
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ..errors import ItemError, UserError
from ..types import Dataset
from .confusion import confusion

log = logging.getLogger(__name__)
for noisy in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(noisy).setLevel(logging.ERROR)  # here, so that it holds in the processes of a _Share, too

QUIET: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}

Item = tuple[str, Callable[[], Image.Image], Callable[[], int | np.ndarray]]
"""A key, and what reads the image and its label or mask (height, width; as large as the image)."""


class Evaluation(L.LightningModule):
    """Fills `records`: for every key of the batches (lists of key, image, label or mask) what the model said.

    Classification: `label`, `predicted`, `certainty` (the probability of `predicted`), `confidence` (that of the label) and `top5` (class ids, best first).
    Segmentation: `confusion`, a list of [true, predicted, pixels], and `confidence`, the mean probability of the true
    class; both over the pixels whose class is not ignored, so `confidence` is None where there are none.
    """

    def __init__(self, model: Any, dataset: Dataset) -> None:
        super().__init__()
        self.model = model
        self.dataset = dataset
        self.records: dict[str, dict[str, Any]] = {}

    def test_step(self, batch: list[tuple[str, Image.Image, int | np.ndarray]], index: int) -> None:
        """Adds the records of a batch; raises a UserError when the model's classes cannot be the data set's."""
        keys, images, truths = zip(*batch, strict=True)
        for key, logits, truth in zip(keys, self.model.predict(images), truths, strict=True):
            if len(logits) > len(self.dataset.classes):
                raise UserError(
                    f"model={self.model.name} tells {len(logits)} classes apart, {self.dataset.name} has {len(self.dataset.classes)}; "
                    "give model.class_map, which maps the model's class ids to the data set's"
                )
            # classes that the model does not know have probability 0
            known = logits.softmax(0)
            probabilities = torch.cat([known, known.new_zeros(len(self.dataset.classes) - len(known), *known.shape[1:])])
            self.records[key] = _classified(probabilities, truth) if isinstance(truth, int) else self._segmented(key, probabilities, truth)

    def _segmented(self, key: str, probabilities: Tensor, truth: np.ndarray) -> dict[str, Any]:
        if truth.shape != probabilities.shape[1:]:
            raise ItemError(f"the mask of {key} is {truth.shape[::-1]} pixels, the image {tuple(probabilities.shape[:0:-1])}")
        matrix = confusion(truth, probabilities.argmax(0).numpy(), self.dataset.ignored)
        kept = torch.from_numpy(~np.isin(truth, list(self.dataset.ignored)))
        ids = torch.from_numpy(truth.astype(np.int64)) * kept
        confidence = probabilities.gather(0, ids[None])[0][kept].double().mean().item() if kept.any() else None
        return {"confusion": [[int(t), int(p), int(matrix[t, p])] for t, p in np.argwhere(matrix)], "confidence": confidence}


def _classified(probabilities: Tensor, label: int) -> dict[str, Any]:
    certainty, best = probabilities.topk(min(5, len(probabilities)))
    answer = {"label": label, "predicted": best[0].item(), "certainty": certainty[0].item()}
    return answer | {"confidence": probabilities[label].item(), "top5": best.tolist()}


class _Items(IterableDataset[tuple[str, Image.Image, int | np.ndarray]]):
    def __init__(self, items: Iterable[Item]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[tuple[str, Image.Image, int | np.ndarray]]:
        for key, image, truth in self.items:
            yield key, image(), truth()


class _Share(Evaluation):
    """One process's share of an evaluation, of places in a list of items: it opens its own model on its own device, and leaves its records in a folder."""

    def __init__(self, task: bytes, folder: str) -> None:
        L.LightningModule.__init__(self)
        self.task, self.folder = task, folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        warnings.filterwarnings("ignore", module="lightning")  # as in `evaluate`, of which this process knows nothing
        super().__setstate__(state)

    def setup(self, stage: str) -> None:
        """Unpacks the model, the data set and the items, and loads the model."""
        model, self.dataset, self.items = pickle.loads(self.task)
        self.model = replace(model, device=str(self.trainer.strategy.root_device)) if hasattr(model, "device") else model
        self.model.load()
        self.records = {}

    def test_step(self, batch: list[int], index: int) -> None:  # type: ignore[override]  # the items come by their places
        """Reads the items of a batch and adds their records."""
        super().test_step([(key, image(), truth()) for key, image, truth in (self.items[place] for place in batch)], index)

    def on_test_end(self) -> None:
        """Leaves the records."""
        Path(self.folder, f"{self.global_rank}.json").write_text(json.dumps(self.records))


def evaluate(model: Any, items: Iterable[Item], dataset: Dataset, batch_size: int, devices: int = 1) -> dict[str, dict[str, Any]]:
    """Returns the record of each item (see Evaluation); reads the items as it goes and holds one batch of images at a time.

    `model` is loaded. What reading an item raises comes out as it is, and ends the evaluation. On several `devices`, GPUs or
    processes, each has its share of the items; where that fails, the exception is that of Lightning's.
    """
    with warnings.catch_warnings():
        # advice about worker processes, which would read images faster than models take them, and what Lightning's own code is warned about
        warnings.filterwarnings("ignore", module="lightning")
        if devices > 1 and len(listed := list(items)) > batch_size:
            return _spread(model, listed, dataset, batch_size, devices)
        evaluation = Evaluation(model, dataset)
        trainer = L.Trainer(devices=1, **QUIET)
        trainer.test(evaluation, DataLoader(_Items(items), batch_size=batch_size, collate_fn=list), verbose=False)
    return evaluation.records


def _spread(model: Any, items: Sequence[Item], dataset: Dataset, batch_size: int, devices: int) -> dict[str, dict[str, Any]]:
    """Returns the record of each item from fresh processes, one a device (a process that has used torch cannot be forked).

    Lightning's DistributedSampler gives some items to two processes, so that all have as many: here each counts once.
    """
    import cloudpickle  # type: ignore[import-untyped]  # the readers of images may be lambdas

    with tempfile.TemporaryDirectory() as folder:
        share = _Share(cloudpickle.dumps((replace(model), dataset, items)), folder)  # the copy is not loaded
        try:
            trainer = L.Trainer(devices=devices, strategy="ddp_spawn", **QUIET)
            trainer.test(share, DataLoader(range(len(items)), batch_size=batch_size, collate_fn=list), verbose=False)  # type: ignore[arg-type]  # it has all that a data set needs
        except MisconfigurationException as error:
            raise UserError(f"devices={devices}: {error}") from error
        except Exception as error:
            log.warning("devices=%d: the images are tried one by one here, for a process ended with %s", devices, str(error).strip().splitlines()[-1])
            raise
        records: dict[str, dict[str, Any]] = {}
        for path in Path(folder).iterdir():
            records |= json.loads(path.read_text())
    return records
