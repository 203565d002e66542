"""A model under test, run over images by Lightning: one record an image, and nothing else kept."""

import base64
import io
import logging
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ..errors import ItemError, UserError
from ..execution import attempt, together
from ..types import Dataset
from .confusion import confusion

log = logging.getLogger(__name__)
for noisy in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(noisy).setLevel(logging.ERROR)  # here, so that it holds in the processes of a _Share, too

QUIET: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}

LARGEST = (320, 320)  # the report's images are as large

Item = tuple[str, Callable[[], Image.Image], Callable[[], int | np.ndarray]]
"""A key, and what reads the image and its label or mask (height, width; as large as the image)."""

Records = dict[str, dict[str, Any] | Exception]
"""By key what a model said of an item (see Evaluation), or the exception that the item raises."""


class Evaluation(L.LightningModule):
    """Fills `records`: for every item of the batches what the model said, or the exception that the item raises.

    Classification: `label`, `predicted`, `certainty` (the probability of `predicted`), `confidence` (that of the label) and `top5` (class ids, best first).
    Segmentation: `confusion`, a list of [true, predicted, pixels], and `confidence`, the mean probability of the true
    class; both over the pixels whose class is not ignored, so `confidence` is None where there are none. `mistakes`, an image that
    is transparent but where the prediction is wrong: there it has the colour of the predicted class (a PNG in base64, of LARGEST pixels at most).
    """

    def __init__(self, model: Any, dataset: Dataset) -> None:
        super().__init__()
        self.model = model
        self.dataset = dataset
        self.records: Records = {}

    def test_step(self, batch: list[Item], index: int) -> None:
        """Reads the items of a batch, all at once, and adds their records; raises a UserError when the model's classes cannot be the data set's."""
        read = dict(zip((key for key, _, _ in batch), together(lambda item: (item[1](), item[2]()), batch), strict=True))
        whole = [(key, *both) for key, both in read.items() if not isinstance(both, Exception)]
        self.records |= read | dict(zip((key for key, *_ in whole), attempt(self._said, self.model, whole), strict=True))

    def _said(self, model: Any, batch: list[tuple[str, Image.Image, int | np.ndarray]]) -> list[dict[str, Any]]:
        keys, images, truths = zip(*batch, strict=True)
        records = []
        for key, logits, truth in zip(keys, model.predict(images), truths, strict=True):
            if len(logits) > len(self.dataset.classes):
                raise UserError(
                    f"model={model.name} tells {len(logits)} classes apart, {self.dataset.name} has {len(self.dataset.classes)}; "
                    "give model.class_map, which maps the model's class ids to the data set's"
                )
            # classes that the model does not know have probability 0
            known = logits.softmax(0)
            probabilities = torch.cat([known, known.new_zeros(len(self.dataset.classes) - len(known), *known.shape[1:])])
            records.append(_classified(probabilities, truth) if isinstance(truth, int) else self._segmented(key, probabilities, truth))
        return records

    def _segmented(self, key: str, probabilities: Tensor, truth: np.ndarray) -> dict[str, Any]:
        if truth.shape != probabilities.shape[1:]:
            raise ItemError(f"the mask of {key} is {truth.shape[::-1]} pixels, the image {tuple(probabilities.shape[:0:-1])}")
        predicted = probabilities.argmax(0).numpy()
        matrix = confusion(truth, predicted, self.dataset.ignored)
        kept = torch.from_numpy(~np.isin(truth, list(self.dataset.ignored)))
        ids = torch.from_numpy(truth.astype(np.int64)) * kept
        confidence = probabilities.gather(0, ids[None])[0][kept].double().mean().item() if kept.any() else None
        cells = [[int(t), int(p), int(matrix[t, p])] for t, p in np.argwhere(matrix)]
        wrong = (truth != predicted) & kept.numpy()
        return {"confusion": cells, "confidence": confidence, "mistakes": _painted(wrong, predicted, self.dataset.colours)}


def _painted(wrong: np.ndarray, predicted: np.ndarray, colours: Sequence[tuple[int, int, int]]) -> str:
    """Returns the file, in base64, of an image that is transparent but where the prediction is wrong: there it has the colour of the predicted class."""
    classes = np.unique(predicted[wrong])[:255]  # a palette has room for no more beside what is transparent
    image = Image.fromarray(np.where(wrong, np.searchsorted(classes, predicted) + 1, 0).astype(np.uint8))
    image.putpalette([0, 0, 0, *(value for i in classes for value in colours[i])])
    image.thumbnail(LARGEST, Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    return base64.b64encode(file.getvalue()).decode()


def _classified(probabilities: Tensor, label: int) -> dict[str, Any]:
    certainty, best = probabilities.topk(min(5, len(probabilities)))
    answer = {"label": label, "predicted": best[0].item(), "certainty": certainty[0].item()}
    return answer | {"confidence": probabilities[label].item(), "top5": best.tolist()}


class _Items(IterableDataset[Item]):
    def __init__(self, items: Iterable[Item]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Item]:
        yield from self.items


class _Share(Evaluation):
    """One process's share of an evaluation, of places in a list of items: it opens its own model on its own device.

    What it is about lies in a folder, where it leaves its records, or the mistake of the user's that ends it.
    """

    def __init__(self, folder: str) -> None:
        L.LightningModule.__init__(self)
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        warnings.filterwarnings("ignore", module="lightning")  # as in `evaluate`, of which this process knows nothing
        super().__setstate__(state)

    def setup(self, stage: str) -> None:
        """Unpacks the model, the data set and the items, and loads the model."""
        model, self.dataset, self.items = pickle.loads(Path(self.folder, "task").read_bytes())
        self.model = replace(model, device=str(self.trainer.strategy.root_device)) if hasattr(model, "device") else model
        self.records = {}
        with self._mistakes():
            self.model.load()

    def test_step(self, batch: list[int], index: int) -> None:  # type: ignore[override]  # the items come by their places
        """Reads the items of a batch and adds their records."""
        with self._mistakes():
            super().test_step([self.items[place] for place in batch], index)

    def on_test_end(self) -> None:
        """Leaves the records; exceptions as ItemErrors, for not all of them can be sent to another process."""
        for key, record in self.records.items():
            if isinstance(record, Exception) and not isinstance(record, ItemError):
                self.records[key] = ItemError(f"{type(record).__name__}: {record}")
        Path(self.folder, f"{self.global_rank}.records").write_bytes(pickle.dumps(self.records))

    @contextmanager
    def _mistakes(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            Path(self.folder, f"{self.global_rank}.mistake").write_text(str(error))
            raise


def evaluate(model: Any, items: Iterable[Item], dataset: Dataset, batch_size: int, devices: int = 1) -> Records:
    """Returns the record of each item, or the exception that it raises; reads the items as it goes and holds one batch of images at a time.

    `model` is loaded. On several `devices`, GPUs or processes, each has its share of the items. What is no item's raises a
    UserError: what the model or the data set says is one, and that a process ended.
    """
    with warnings.catch_warnings():
        # advice about worker processes, whose work threads do here, and what Lightning's own code is warned about
        warnings.filterwarnings("ignore", module="lightning")
        if devices > 1 and len(listed := list(items)) > batch_size:
            return _spread(model, listed, dataset, batch_size, devices)
        evaluation = Evaluation(model, dataset)
        trainer = L.Trainer(accelerator="cpu", devices=1, plugins=LightningEnvironment(), **QUIET)  # a model knows its own device
        trainer.test(evaluation, DataLoader(_Items(items), batch_size=batch_size, collate_fn=list), verbose=False)
    return evaluation.records


def _spread(model: Any, items: Sequence[Item], dataset: Dataset, batch_size: int, devices: int) -> Records:
    """Returns what `evaluate` does from fresh processes, one a device (a process that has used torch cannot be forked).

    Lightning's DistributedSampler gives some items to two processes, so that all have as many: here each counts once.
    """
    import cloudpickle  # type: ignore[import-untyped]  # the readers of images may be lambdas

    with tempfile.TemporaryDirectory() as folder:
        torch.cuda.empty_cache()  # what models before this one left to this process, the others cannot have
        try:
            Path(folder, "task").write_bytes(cloudpickle.dumps((replace(model), dataset, items)))  # the copy is not loaded
            # the processes are Lightning's to start, whatever Slurm or torchrun started this one
            trainer = L.Trainer(devices=devices, strategy="ddp_spawn", plugins=LightningEnvironment(), **QUIET)
            trainer.test(_Share(folder), DataLoader(range(len(items)), batch_size=batch_size, collate_fn=list), verbose=False)  # type: ignore[arg-type]  # it has all that a data set needs
        except MisconfigurationException as error:
            raise UserError(f"devices={devices}: {error}") from error
        except Exception as error:
            if mistakes := [path.read_text() for path in Path(folder).glob("*.mistake")]:
                raise UserError(max(mistakes, key=len)) from error  # one may have been cut off as it wrote
            log.error("%s", error)
            raise UserError(
                f"devices={devices}: model={model.name} cannot be run by several processes, or one of them ended: "
                f"{str(error).strip().splitlines()[-1]}. Finished work is kept; where memory was short, a smaller batch_size of the model may do"
            ) from error
        finally:
            os.environ.pop("MASTER_PORT", None)  # Lightning would take the same port again, which may be another's by then
        records: Records = {}
        for path in Path(folder).glob("*.records"):
            records |= pickle.loads(path.read_bytes())
    return {key: records[key] for key, _, _ in items}
