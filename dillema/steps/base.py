"""The contract of a step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from PIL import Image

from ..backend import Dataset
from ..decoding import read_saved_image
from ..errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class StepResult:
    """The result of a step for one item: a JSON value, and an image if the step makes images.

    Attributes:
        seconds: The time of the work, where it was measured.
    """

    value: Any = None
    image: Image.Image | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Step(ABC, Generic[Item]):
    """One kind of work, as a value: it can be pickled, tested alone and run anywhere.

    It knows nothing of the store, of Hydra, of MLflow or of other steps.

    Attributes:
        name: Its name in records, failures and the page.
        version: Part of the key of every record; raise it whenever the same item gives another result.
        images: Whether the results have images.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    images: ClassVar[bool] = False

    @property
    def backend(self) -> Any:
        """Returns the back-end that does the work; None if there is none."""
        return None

    @property
    def batch_size(self) -> int:
        """Returns how many items a batch has; raises a UserError for a back-end that does not say it."""
        if self.backend is None:
            return 16
        size = getattr(self.backend, "batch_size", None)
        if not isinstance(size, int) or size < 1:
            name = f"{type(self.backend).__module__}.{type(self.backend).__qualname__}"
            raise UserError(
                f"{name} needs a field `batch_size: BatchSize = 1` (dillema.fields), a whole number of at "
                f"least 1; it has {size!r:.60}"
            )
        return size

    @abstractmethod
    def item_id(self, item: Item) -> str:
        """Returns the id of an item, which is unique within the step."""

    @abstractmethod
    def key(self, item: Item) -> Any:
        """Returns, as JSON, what the result depends on besides the step's version and the back-end."""

    @abstractmethod
    def work(self, backend: Any, batch: Sequence[Item]) -> Sequence[StepResult | Exception]:
        """Returns a result or an exception for each item; `dillema.backend` lists the promises."""

    def decode(self, value: Any) -> Any:
        """Returns the result that the JSON value of a record encodes."""
        return value


def wrap_results(results: Sequence[Any]) -> list[StepResult | Exception]:
    """Returns JSON values as results; leaves exceptions as they are."""
    return [result if isinstance(result, Exception) else StepResult(result) for result in results]


def dataset_key(dataset: Dataset) -> list[Any]:
    """Returns the properties of a data set, besides its samples, that results depend on."""
    return [dataset.task, list(dataset.classes), [list(c) for c in dataset.colours], sorted(dataset.ignored)]


def open_image(path: Any) -> Image.Image:
    """Returns the RGB image in a file of the store, which may be at a remote address.

    Raises a UserError if it is damaged.
    """
    return read_saved_image(path)
