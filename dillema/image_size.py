"""The size of the images of a run, and work on images of several sizes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Size = tuple[int, int]
"""Width and height in pixels."""

MULTIPLE = 64  # of both sides, where proportions are kept: what networks of diffusion models divide by

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageSize:
    """The size at which a source is generated and models see it.

    Attributes:
        width: Pixels; None, together with `height`, keeps the proportions of every source.
        height: Pixels, or None.
        short_side: Pixels of the shorter side, where the proportions are kept.
    """

    width: int | None = None
    height: int | None = None
    short_side: int = 512

    def of(self, source: Size) -> Size:
        """Returns the size for a source of this size.

        Where proportions are kept, both sides are rounded to multiples of 64, as in `resize_image` of the
        annotators of ControlNet (Zhang et al., ICCV 2023).
        """
        if self.width is not None and self.height is not None:
            return self.width, self.height
        return in_proportion(source, self.short_side, MULTIPLE)

    @property
    def key(self) -> list[int] | dict[str, int]:
        """Returns, as JSON, what a size depends on besides that of the source."""
        if self.width is not None and self.height is not None:
            return [self.width, self.height]
        return {"short_side": self.short_side}


def in_proportion(source: Size, short_side: int, multiple: int) -> Size:
    """Returns a size with this shorter side in the proportions of a source, both sides being multiples."""
    factor = short_side / min(source)
    width, height = (max(1, round(side * factor / multiple)) * multiple for side in source)
    return width, height


def in_equal_sizes(
    work: Callable[[Sequence[Item]], Iterable[Result]], batch: Sequence[Item], sizes: Sequence[Size]
) -> list[Result]:
    """Returns the results of work that takes images of one size only: of a batch with these sizes."""
    indices_by_size: dict[Size, list[int]] = {}
    for index, size in enumerate(sizes):
        indices_by_size.setdefault(size, []).append(index)
    if len(indices_by_size) <= 1:
        return list(work(batch))
    results: dict[int, Result] = {}
    for indices in indices_by_size.values():
        part = work([batch[index] for index in indices])
        results |= dict(zip(indices, part, strict=True))
    return [results[index] for index in range(len(batch))]
