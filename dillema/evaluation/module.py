"""A model under test, run over images by Lightning: one record an image, and nothing else kept."""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ..errors import ItemError, UserError
from ..types import Dataset
from .confusion import confusion

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


def evaluate(model: Any, items: Iterable[Item], dataset: Dataset, batch_size: int) -> dict[str, dict[str, Any]]:
    """Returns the record of each item (see Evaluation); reads the items as it goes and holds one batch of images at a time.

    `model` is loaded. What reading an item raises comes out as it is, and ends the evaluation.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = L.Trainer(devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    evaluation = Evaluation(model, dataset)
    with warnings.catch_warnings():
        # advice about worker processes, which would read images faster than models take them, and what Lightning's own code is warned about
        warnings.filterwarnings("ignore", module="lightning")
        trainer.test(evaluation, DataLoader(_Items(items), batch_size=batch_size, collate_fn=list), verbose=False)
    return evaluation.records
