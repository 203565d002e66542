"""The contracts: what the option of each group provides, said once.

A back-end is a dataclass, so that its fields are its settings. Fields that change no result are hinted
`Transient` (or `BatchSize`), fields that name weights or prompts `Weights` (see `dillema.fields`).
`version` is raised whenever the same settings give another result. `load()` is called once, in the process
that does the work, before anything else.

What every method that takes a batch promises: one result an item, in order; the result of an item depends
on that item and its seed alone, not on the batch, on earlier calls or on the process; what is wrong with
one item is an exception in its place, or is raised (the batch is then tried item by item). An `ItemError`
is the item's, a `UserError` ends the run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypedDict, runtime_checkable

from PIL import Image

from .types import Caption, Control, Counterfactual, Edit, Expression, Sample, Variant

if TYPE_CHECKING:
    from torch import Tensor

Vary = Mapping[str, Sequence[str]]
"""The attributes that may change without changing a label, each with its allowed values (none listed.

Any value).
"""

Size = tuple[int, int]
"""Width and height in pixels."""


class Message(TypedDict):
    """One turn of a chat; `role` is system, user or assistant."""

    role: str
    content: str


class Backend(Protocol):
    """What all back-ends have; `batch_size` is a field, hinted `BatchSize`, or a constant of the class."""

    version: ClassVar[int]

    @property
    def batch_size(self) -> int:
        """Returns how many items are handed over at a time."""
        ...

    def load(self) -> None:
        """Loads models and opens connections; raises a UserError that says what is missing."""
        ...


class Dataset(Protocol):
    """Labelled samples of one task."""

    @property
    def name(self) -> str:
        """Returns its name in results and messages."""
        ...

    @property
    def task(self) -> str:
        """Returns the name of a module of `dillema.task`, or the full name of a module of one's own."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Returns the names of the classes by id."""
        ...

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """Returns the colours of the classes in masks by id, RGB of 0 to 255.

        Empty where nothing has a mask.
        """
        ...

    @property
    def ignored(self) -> frozenset[int]:
        """Returns the class ids that are not scored."""
        ...

    @property
    def vary(self) -> Vary:
        """Returns what may change without changing a label."""
        ...

    def samples(self) -> list[Sample]:
        """Returns the samples, in a stable order; raises a UserError when there are none."""
        ...


@runtime_checkable
class Renders(Protocol):
    """A data set that can make the real image of what an edit stands for, so that the truth is known."""

    def render(self, sample: Sample, edits: Sequence[Edit]) -> Callable[[], Image.Image] | None:
        """Returns a function that makes the image of an edited sample.

        Or None where an edit cannot be rendered.
        """
        ...


class Captioner(Backend, Protocol):
    """Writes what a person would write under an image."""

    def caption(
        self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]
    ) -> Sequence[Caption | Exception]:
        """Returns one caption a sample."""
        ...


class LanguageModel(Protocol):
    """Answers questions in JSON."""

    version: ClassVar[int]

    @property
    def batch_size(self) -> int:
        """Returns how many questions may be asked at the same time, from as many threads."""
        ...

    def load(self, turns: Sequence[list[Message]] = ()) -> None:
        """Loads the weights, and reads the turns that questions will follow where that saves time."""
        ...

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns JSON that fits a JSON schema.

        The same question and seed give the same reply, whatever was asked before. Servers may ignore the
        schema, so the reply is checked by whoever asks. Raises an ItemError for a reply that was cut short.
        """
        ...


class Editor(Backend, Protocol):
    """Finds out what a caption says, and rewrites it."""

    def keywords(self, caption: Caption, vary: Vary, label: str, seed: int) -> Mapping[str, Expression]:
        """Returns how the caption expresses each attribute that can be changed in it, in the order of `vary`.

        `label` is the name of the sample's class, "" where it has none: no word of it is part of a span.
        Raises an ItemError when nothing can be changed.
        """
        ...

    def rewrite(
        self, caption: Caption, expressions: Mapping[str, Expression], variant: Variant, label: str, seed: int
    ) -> Counterfactual:
        """Returns the caption with one edit for each attribute of the variant, to a value that it allows.

        Raises an ItemError when no reply of the language model fits.
        """
        ...


class EditStrategy(Protocol):
    """Chooses the variants of a sample."""

    version: ClassVar[int]

    def plan(
        self, sample_id: str, expressions: Mapping[str, Expression], vary: Vary, count: int, seed: int
    ) -> list[Variant]:
        """Returns up to `count` variants of one sample, of which no two can come out the same.

        None changes an attribute to the value it has. Depends on the arguments alone: never on other samples.
        """
        ...


class Conditioning(Backend, Protocol):
    """Extracts the structure that a generated image must keep.

    Attributes:
        name: What it is called among several, such as "depth".
    """

    name: ClassVar[str]

    def control(self, sample: Sample, dataset: Dataset, size: Size) -> Control:
        """Returns the control image of a sample, RGB and of this size."""
        ...


class ReadsMore(Protocol):
    """A conditioning that reads more of a sample than its image and mask."""

    def content(self, sample: Sample) -> str:
        """Returns a hash of what it reads."""
        ...


class Generator(Backend, Protocol):
    """Paints counterfactuals; its images are `width` by `height` pixels."""

    width: int
    height: int

    def generate(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        controls: Sequence[Mapping[str, Control]],
        seeds: Sequence[int],
    ) -> Sequence[Image.Image | Exception]:
        """Returns one RGB image a counterfactual; `controls` are by the name of their conditioning."""
        ...


class Gate(Backend, Protocol):
    """Decides whether a generated image may count: whether its label still holds, whether the edit happened.

    Thresholds are transient fields: other thresholds need no new scores.

    Attributes:
        name: What it is called among several; begins the names of its scores.
        scores: The names of what it measures.
    """

    name: str
    scores: ClassVar[tuple[str, ...]]

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> Sequence[Mapping[str, float] | Exception]:
        """Returns what was measured of each generated image, by the name of the score.

        A score that cannot be told (no pixel to compare, no answer) is left out or NaN.
        """
        ...

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns why an image with these scores does not count, each in a few words; none when it passes."""
        ...


class Model(Backend, Protocol):
    """A model under test."""

    name: str

    @property
    def class_names(self) -> Sequence[str]:
        """Returns the names of the model's own classes, by its ids, once it is loaded.

        None where they are unknown.
        """
        ...

    def predict(self, images: Sequence[Image.Image]) -> "Tensor | Sequence[Tensor]":
        """Returns the logits of the data set's classes for each image, float32, on the CPU.

        Of shape (classes), or (classes, height, width) at the size of the image. Images of one batch are of
        one size. Raises an ItemError for NaN and infinite logits.
        """
        ...


class Quality(Backend, Protocol):
    """Measures generated images by networks."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Returns the names of what is measured of each image."""
        ...

    @property
    def features(self) -> str | None:
        """Returns the network on whose features sets are compared, None where none is."""
        ...

    def score(
        self, originals: Sequence[Image.Image], images: Sequence[Image.Image], texts: Sequence[str]
    ) -> Sequence[Mapping[str, float] | Exception]:
        """Returns the figures of each image; all images are of one size."""
        ...

    def distance(
        self, originals: Sequence[Callable[[], Image.Image]], images: Sequence[Callable[[], Image.Image]]
    ) -> dict[str, Any]:
        """Returns how far a set of images is from another one."""
        ...


class Work(Protocol):
    """What an executor runs: a step, as far as an executor looks at it."""

    @property
    def backend(self) -> Any:
        """Returns the back-end that is loaded for the work; None where there is none to load."""
        ...

    def work(self, backend: Any, batch: Sequence[Any]) -> Sequence[Any]:
        """Returns one result, or an exception in its place, for each item."""
        ...


class Executor(Protocol):
    """Maps a step over batches. It knows nothing of records, of failures that are allowed, or of other steps.

    Attributes:
        devices: GPUs (processes, where there are none) that a model under test runs on side by side.
    """

    devices: int

    def load(self, backend: Any) -> None:
        """Loads a back-end, after the memory of the one before was given back."""
        ...

    def map(self, step: Work, batches: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
        """Yields the results of each batch, in order.

        A batch that fails is tried again item by item; a batch that does not fit the memory is halved.
        Raises a UserError for what is nobody's item: memory that does not suffice for one item, a lost
        network, a full disk.
        """
        ...
