"""Runs a model under test on images with Lightning; keeps one record an image in memory."""

import logging
import os
import pickle
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from ..backend import Dataset, Model
from ..errors import ItemError, UserError
from ..execution import in_threads, run_alone, run_batch
from ..image_size import in_equal_sizes
from ..model.classes import check_class_count
from ..task import Truth, get_task

log = logging.getLogger(__name__)
for noisy in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(noisy).setLevel(
        logging.ERROR
    )  # here, so that it holds in the processes of a _Share, too

TRAINER_OPTIONS: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}

_of_thread = threading.local()

Item = tuple[str, Callable[[], Image.Image], Callable[[], Truth]]
"""A key, and functions that read the image and its truth."""

Content = tuple[Image.Image, Truth] | Exception
"""What an item reads, or the exception that it raises."""

Records = dict[str, dict[str, Any] | Exception]
"""The record of each item by its key (see `Task.record`), or the exception that the item raises."""


class Evaluation(L.LightningModule):
    """Fills `records` with the record of every item of the batches, or the exception that the item raises."""

    def __init__(self, model: Model, dataset: Dataset) -> None:
        super().__init__()
        self.model = model
        self.dataset = dataset
        self.records: Records = {}

    def test_step(self, batch: list[tuple[str, Future[Content]]], index: int) -> None:
        """Waits for the contents of a batch, and adds its records; see `add`."""
        self.add({key: content.result() for key, content in batch})

    def add(self, content_by_key: Mapping[str, Content]) -> None:
        """Adds the records of a batch of images and truths.

        Raises a UserError if the model's classes do not fit the data set.
        """
        readable = [
            (key, *content) for key, content in content_by_key.items() if not isinstance(content, Exception)
        ]
        failed = {key: content for key, content in content_by_key.items() if isinstance(content, Exception)}
        records = run_batch(self._predict, readable) if readable else []
        record_by_key = dict(zip((key for key, *_ in readable), records, strict=True))
        self.records |= {key: failed.get(key) or record_by_key[key] for key in content_by_key}

    def _predict(self, batch: Sequence[tuple[str, Image.Image, Truth]]) -> list[dict[str, Any]]:
        task = get_task(self.dataset.task)
        truths = [truth for _, _, truth in batch]
        images = [image for _, image, _ in batch]
        outputs = in_equal_sizes(self.model.predict, images, [image.size for image in images])
        if len(outputs):
            check_class_count(self.model, self.dataset, len(outputs[0]))
        try:
            pairs = zip(outputs, truths, strict=True)
            return [task.record(output, truth, self.dataset) for output, truth in pairs]
        except UserError as error:
            raise UserError(f"model={self.model.name}: {error}") from error


def _read(item: Item) -> tuple[Image.Image, Truth]:
    return item[1](), item[2]()


class _Items(IterableDataset[tuple[str, Future[Content]]]):
    """Items that threads read. Lightning asks for the next batch before it gives one to the model."""

    def __init__(self, items: Iterable[Item], batch_size: int) -> None:
        self.items, self.batch_size = items, batch_size

    def __iter__(self) -> Iterator[tuple[str, Future[Content]]]:
        with ThreadPoolExecutor(self.batch_size) as threads:
            for item in self.items:
                yield item[0], threads.submit(run_alone, _read, item)


class _Share(Evaluation):
    """The part of an evaluation that one process does: indices of a list of items.

    It reads the model, the data set and the items from a folder, and writes its records, or the UserError
    that ends it, to the same folder.
    """

    def __init__(self, folder: str) -> None:
        L.LightningModule.__init__(self)
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        warnings.filterwarnings(
            "ignore", module="lightning"
        )  # the filters in `evaluate` do not apply to this process
        super().__setstate__(state)

    def setup(self, stage: str) -> None:
        """Unpacks the model, the data set and the items, and loads the model."""
        model, self.dataset, self.items = pickle.loads(Path(self.folder, "inputs").read_bytes())
        device = str(self.trainer.strategy.root_device)
        self.model = replace(model, device=device) if hasattr(model, "device") else model
        self.records = {}
        with self._user_errors():
            self.model.load()

    def test_step(self, batch: list[int], index: int) -> None:  # type: ignore[override] # by index
        """Reads the items of a batch and adds their records."""
        items = [self.items[i] for i in batch]
        with self._user_errors():
            self.add(dict(zip((key for key, *_ in items), in_threads(_read, items), strict=True)))

    def on_test_end(self) -> None:
        """Writes the records; turns exceptions into ItemErrors, because some cannot be pickled."""
        for key, record in self.records.items():
            if isinstance(record, Exception) and not isinstance(record, ItemError):
                self.records[key] = ItemError(f"{type(record).__name__}: {record}")
        Path(self.folder, f"{self.global_rank}.records").write_bytes(pickle.dumps(self.records))

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            Path(self.folder, f"{self.global_rank}.error").write_text(str(error))
            raise


def evaluate(
    model: Model, items: Iterable[Item], dataset: Dataset, batch_size: int, devices: int = 1
) -> Records:
    """Returns the record of each item, or the exception that it raises.

    Holds two batches of images in memory: one is read while the other is predicted. `model` must be loaded.
    The items are divided among `devices` (GPUs or processes). Raises a UserError for a failure that is not of
    one item: of the model, of the data set, or of a process.
    """
    with warnings.catch_warnings():
        # advice about worker processes (threads do that work here), and warnings about Lightning's own code
        warnings.filterwarnings("ignore", module="lightning")
        if devices > 1:
            items = list(items)
            if len(items) > batch_size:
                return _evaluate_in_processes(model, items, dataset, batch_size, devices)
        evaluation = Evaluation(model, dataset)
        loader = DataLoader(_Items(items, batch_size), batch_size=batch_size, collate_fn=list)
        with interrupts(), _trainer_of_thread() as trainer:
            trainer.test(evaluation, loader, verbose=False)
        records = evaluation.records
        del evaluation.model, evaluation.records  # the trainer keeps the module until the next test
    return records


@contextmanager
def _trainer_of_thread() -> Iterator[L.Trainer]:
    """Gives the trainer of this thread, because making one takes longer than predicting a small batch."""
    trainer = getattr(_of_thread, "trainer", None)
    _of_thread.trainer = None  # one that failed is not used again
    if trainer is None:
        # Lightning is told to use the CPU, because a model manages its own device
        plugins = LightningEnvironment()
        trainer = L.Trainer(accelerator="cpu", devices=1, plugins=plugins, **TRAINER_OPTIONS)
    yield trainer
    _of_thread.trainer = trainer


@contextmanager
def interrupts() -> Iterator[None]:
    """Raises a KeyboardInterrupt unchanged; Lightning would end the process with exit code 1 instead."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)  # which Lightning has replaced


def _evaluate_in_processes(
    model: Model, items: Sequence[Item], dataset: Dataset, batch_size: int, devices: int
) -> Records:
    """Returns the result of `evaluate`, computed in new processes, one for each device.

    A process that has used torch cannot be forked. Lightning's DistributedSampler gives some items to two
    processes, so that all have equally many; here each item counts once.
    """
    import cloudpickle  # type: ignore[import-untyped]  # the readers of images may be lambdas

    with tempfile.TemporaryDirectory() as folder:
        torch.cuda.empty_cache()  # frees the memory of earlier models for the other processes
        try:
            unloaded = replace(cast(Any, model))
            Path(folder, "inputs").write_bytes(cloudpickle.dumps((unloaded, dataset, items)))
            # Lightning must start the processes, even if Slurm or torchrun started this one
            plugins = LightningEnvironment()
            trainer = L.Trainer(devices=devices, strategy="ddp_spawn", plugins=plugins, **TRAINER_OPTIONS)
            indices: Any = range(len(items))
            loader = DataLoader(indices, batch_size=batch_size, collate_fn=list)
            with interrupts():
                trainer.test(_Share(folder), loader, verbose=False)
        except MisconfigurationException as error:
            raise UserError(f"devices={devices}: {error}") from error
        except Exception as error:
            if messages := [path.read_text() for path in Path(folder).glob("*.error")]:
                raise UserError(
                    max(messages, key=len)
                ) from error  # a process may have been stopped while it wrote
            log.error("%s", error)
            raise UserError(
                f"devices={devices}: model={model.name} cannot be run by several processes, or one of them "
                f"ended: {str(error).strip().splitlines()[-1]}. Finished work is kept; where memory was "
                "short, a smaller batch_size of the model may help"
            ) from error
        finally:
            # otherwise Lightning uses the same port again, which another process may have taken
            os.environ.pop("MASTER_PORT", None)
        records: Records = {}
        for path in Path(folder).glob("*.records"):
            records |= pickle.loads(path.read_bytes())
    return {key: records[key] for key, _, _ in items}
