"""The contracts of the groups: what the option of a group must provide.

A back-end is a dataclass, so that its fields are its settings. Fields that change no result are hinted
`Transient` (or `BatchSize`), fields that name weights or prompts `Weights` (see `dillema.fields`).
`version` is raised whenever the same settings give another result. `load()` is called once, in the process
that does the work, before anything else.

Every method that takes a batch keeps these promises:

- It returns one result an item, in order.
- The result of an item depends only on the item and its seed, not on the batch, on earlier calls or on the
  process. On a GPU alone, its last bits may depend on the batch (see `dillema.execution.each_alone`).
- When one item fails, its exception takes the place of its result, or is raised. After a raised exception
  the batch is tried again item by item.
- An `ItemError` concerns one item. A `UserError` ends the run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypedDict, runtime_checkable

from PIL import Image

from .image_size import Size as Size  # part of the contracts
from .types import Caption, Control, Counterfactual, Edit, Expression, Sample, Variant

if TYPE_CHECKING:
    from torch import Tensor

Vary = Mapping[str, Sequence[str]]
"""The attributes that may change without changing a label, each with its allowed values.

An attribute without listed values may take any value.
"""

CLASS_SCORE = "class "  # begins the name of a score of a single class


class Message(TypedDict):
    """One turn of a chat; `role` is system, user or assistant."""

    role: str
    content: str


class Backend(Protocol):
    """The common part of all back-ends; `batch_size` is a field hinted `BatchSize`, or a class constant."""

    version: ClassVar[int]

    @property
    def batch_size(self) -> int:
        """Returns how many items a batch has."""
        ...

    def load(self) -> None:
        """Loads models and opens connections; raises a UserError when something is missing."""
        ...


class Dataset(Protocol):
    """Labelled samples of one task."""

    @property
    def name(self) -> str:
        """Returns its name in results and messages."""
        ...

    @property
    def task(self) -> str:
        """Returns the name of a module of `dillema.task`, or the full name of another module."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Returns the names of the classes, in the order of their ids."""
        ...

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """Returns the RGB colours (0 to 255) of the classes in masks, in the order of their ids.

        Empty for a data set without masks.
        """
        ...

    @property
    def ignored(self) -> frozenset[int]:
        """Returns the class ids that are not scored."""
        ...

    @property
    def vary(self) -> Vary:
        """Returns the attributes that may change without changing a label."""
        ...

    def samples(self) -> list[Sample]:
        """Returns the samples, in a stable order; raises a UserError when there are none."""
        ...


class Reference(Protocol):
    """Real images of several conditions with their own labels, by which estimated drops are checked.

    Attributes:
        name: Its name in results and messages.
        normal: The attributes that make a condition, each with its value in the normal condition.
    """

    name: str
    normal: dict[str, str]

    def samples(self, dataset: Dataset) -> list[Sample]:
        """Returns images with labels in the classes of a data set, in a stable order.

        Each has all attributes of `normal`. Their ids differ from those of the data set. Raises a UserError
        when there are none, or when their classes are others.
        """
        ...


@runtime_checkable
class Renders(Protocol):
    """A data set that can render the true image of an edited sample."""

    def render(self, sample: Sample, edits: Sequence[Edit]) -> Callable[[], Image.Image] | None:
        """Returns a function that makes the image of an edited sample; None if it cannot be rendered."""
        ...


class Captioner(Backend, Protocol):
    """Describes images in words."""

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
        """Loads the weights; may read ahead the turns that all questions will start with, to save time."""
        ...

    def ask(self, messages: list[Message], schema: dict[str, Any], seed: int) -> str:
        """Returns JSON that fits a JSON schema.

        The same question and seed give the same reply, whatever was asked before. A server may ignore the
        schema, so the caller must check the reply. Raises an ItemError for a reply that was cut short.
        """
        ...


class Editor(Backend, Protocol):
    """Finds the attributes that a caption expresses, and rewrites the caption."""

    def keywords(self, caption: Caption, vary: Vary, label: str, seed: int) -> Mapping[str, Expression]:
        """Returns the expression of each attribute that can change in the caption, in the order of `vary`.

        `label` is the name of the sample's class, or "" for a sample without one. No word of it may be part
        of a span. Raises an ItemError when nothing can be changed.
        """
        ...

    def rewrite(
        self, caption: Caption, expressions: Mapping[str, Expression], variant: Variant, label: str, seed: int
    ) -> Counterfactual:
        """Returns the caption with one edit for each attribute of the variant, to one of its allowed values.

        Raises an ItemError when no reply of the language model fits.
        """
        ...


class EditStrategy(Protocol):
    """Chooses the variants of a sample."""

    version: ClassVar[int]

    def plan(
        self, sample_id: str, expressions: Mapping[str, Expression], vary: Vary, count: int, seed: int
    ) -> list[Variant]:
        """Returns up to `count` variants of one sample; no two of them can give the same counterfactual.

        No variant changes an attribute to the value that it has. The result depends only on the arguments,
        never on other samples.
        """
        ...


class Conditioning(Backend, Protocol):
    """Extracts the structure that a generated image must keep.

    Attributes:
        name: Its name where a run has several conditionings, such as "depth".
    """

    name: ClassVar[str]

    def control(self, sample: Sample, dataset: Dataset, size: Size) -> Control:
        """Returns the control image of a sample, in RGB and of the given size."""
        ...


class ReadsMore(Protocol):
    """A conditioning that reads more of a sample than its image and mask."""

    def content(self, sample: Sample) -> str:
        """Returns a hash of the additional data that it reads."""
        ...


class Generator(Backend, Protocol):
    """Paints counterfactuals.

    Its images are `width` by `height` pixels. If both are None, it keeps the proportions of each source, and
    needs `short_side` (see `dillema.image_size.ImageSize`). All requests of a batch ask for one size.
    """

    width: int | None
    height: int | None

    def generate(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        controls: Sequence[Mapping[str, Control]],
        seeds: Sequence[int],
    ) -> Sequence[Image.Image | Exception]:
        """Returns one RGB image a counterfactual; the keys of `controls` are names of conditionings."""
        ...


@dataclass(frozen=True)
class Threshold:
    """The threshold of a score of a gate.

    Attributes:
        setting: The setting that holds the lowest value of an image that counts, as in `minimum.label`.
        about: What a high score speaks for: that the label is still shown, or that the edit is there.
    """

    setting: str
    about: Literal["label", "edit"]


class Gate(Backend, Protocol):
    """Measures whether the label of a generated image still holds, or whether the edit happened.

    A class whose attribute `scores_classes` is true may also score single classes of the data set: each under
    `CLASS_SCORE` and the name of the class. One whose attribute `compares_masks` is true compares images with
    the masks of their samples: a run on masks warns if no gate does.

    A class whose attribute `asks_placebos` is true also reads `Counterfactual.unchanged` of placebos.

    Thresholds are transient fields, because other thresholds need no new scores. A class may have
    `thresholds`, which names the `Threshold` of a score; job=calibrate finds those.

    Attributes:
        name: Its name where a run has several gates; the prefix of the names of its scores.
        scores: The names of its scores.
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
        """Returns the scores of each generated image by name.

        A score that cannot be computed (no pixel to compare, no answer) is left out or NaN.
        """
        ...

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns why an image with these scores does not count, in a few words each; none if it counts."""
        ...


class Model(Backend, Protocol):
    """A model under test."""

    name: str

    @property
    def class_names(self) -> Sequence[str]:
        """Returns the names of the model's own classes, in the order of their ids; empty if unknown.

        They are available once the model is loaded.
        """
        ...

    def predict(self, images: Sequence[Image.Image]) -> "Tensor | Sequence[Tensor]":
        """Returns the logits of the data set's classes for each image, float32, on the CPU.

        Their shape is (classes), or (classes, height, width) at the size of the image. All images of a
        batch have the same size. Raises an ItemError for NaN and infinite logits.
        """
        ...


class Quality(Backend, Protocol):
    """Measures the quality of generated images with networks."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Returns the names of the figures of an image."""
        ...

    @property
    def features(self) -> str | None:
        """Returns the network whose features are used to compare sets; None if sets are not compared."""
        ...

    def score(
        self, originals: Sequence[Image.Image], images: Sequence[Image.Image], texts: Sequence[str]
    ) -> Sequence[Mapping[str, float] | Exception]:
        """Returns the figures of each image; all images have the same size."""
        ...

    def distance(
        self, originals: Sequence[Callable[[], Image.Image]], images: Sequence[Callable[[], Image.Image]]
    ) -> dict[str, Any]:
        """Returns the distances between two sets of images, by name."""
        ...


class Work(Protocol):
    """The part of a step that an executor uses. It can be pickled."""

    @property
    def name(self) -> str:
        """Returns its name in records and messages."""
        ...

    @property
    def backend(self) -> Any:
        """Returns the back-end that must be loaded for the work; None if there is none."""
        ...

    def work(self, backend: Any, batch: Sequence[Any]) -> Sequence[Any]:
        """Returns a result or an exception for each item."""
        ...


class Executor(Protocol):
    """Runs a step on batches. It knows nothing of records, of allowed failures, or of other steps.

    Attributes:
        devices: On how many GPUs (or processes, on a machine without GPUs) a model under test runs.
        blocks: How many blocks of sources are in work at the same time. `map` is then called from as many
            threads, and the steps work at the same time on different blocks.
        block_size: How many sources a block has.
    """

    devices: int
    blocks: int
    block_size: int

    def load(self, backend: Any) -> None:
        """Frees the memory of the back-end loaded before, then loads this one."""
        ...

    def map(self, step: Work, batches: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
        """Yields the results of each batch, in order.

        A batch that fails is tried again item by item. A batch that does not fit into the memory is halved.
        Raises a UserError for a failure of the machine: memory that does not suffice for a single item, a
        lost network, a full disk.
        """
        ...

    def stop(self) -> None:
        """Ends the work that other threads wait for; they get an exception."""
        ...
