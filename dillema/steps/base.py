"""The contract of a step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from PIL import Image

from ..backend import Dataset

Item = TypeVar("Item")


@dataclass(frozen=True)
class Made:
    """What a step made of one item: a JSON value, and an image where the step makes images."""

    value: Any = None
    image: Image.Image | None = None


@dataclass(frozen=True)
class Step(ABC, Generic[Item]):
    """One kind of work, as a value: it can be pickled, tested alone and run anywhere.

    It knows nothing of the store, of Hydra, of MLflow or of other steps.

    Attributes:
        name: What records, failures and the page call it.
        version: Raised whenever the same item gives another result; part of the key of every record.
        images: Whether the results have images.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    images: ClassVar[bool] = False

    @property
    def backend(self) -> Any:
        """Returns the back-end that does the work; None where there is none to load."""
        return None

    @property
    def batch_size(self) -> int:
        """Returns how many items are worked on at a time."""
        return int(self.backend.batch_size) if self.backend is not None else 16

    @abstractmethod
    def item_id(self, item: Item) -> str:
        """Returns what failures call an item; unique within the step."""

    @abstractmethod
    def key(self, item: Item) -> Any:
        """Returns, as JSON.

        What the result depends on besides the step's version and the back-end's identity.
        """

    @abstractmethod
    def work(self, backend: Any, batch: Sequence[Item]) -> Sequence[Made | Exception]:
        """Returns what was made of each item, or an exception in its place.

        See `dillema.backend` for what is promised.
        """

    def decode(self, value: Any) -> Any:
        """Returns the result that a record's JSON value stands for."""
        return value


def made(results: Sequence[Any]) -> list[Made | Exception]:
    """Returns JSON values as results; exceptions stay what they are."""
    return [result if isinstance(result, Exception) else Made(result) for result in results]


def dataset_key(dataset: Dataset) -> list[Any]:
    """Returns what results depend on of a data set besides its samples."""
    return [dataset.task, list(dataset.classes), [list(c) for c in dataset.colours], sorted(dataset.ignored)]


def open_image(path: Any) -> Image.Image:
    """Returns the RGB image in a file."""
    with Image.open(path) as image:
        return image.convert("RGB")
