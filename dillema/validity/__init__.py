"""Gates: they decide whether a generated image may count as a test."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from PIL import Image

from ..backend import Dataset
from ..types import Sample

if TYPE_CHECKING:
    from torch import Tensor

MOST_DIGITS = 6  # of a score just below its floor: "0.50, below 0.5" would contradict itself


def below(scores: Mapping[str, float], score: str, floor: float | None, meaning: str) -> list[str]:
    """Returns the reason against an image whose score is below a floor; none if either is missing."""
    value = scores.get(score)
    if floor is None or value is None or value >= floor:
        return []
    digits = next((n for n in range(2, MOST_DIGITS) if float(f"{value:.{n}f}") < floor), MOST_DIGITS)
    return [f"{meaning} is {value:.{digits}f}, below {floor:g}"]


def read_original(sample: Sample, image: Image.Image) -> Image.Image:
    """Returns the original image of a sample at the size of the generated one."""
    return sample.image.resize(image.size, Image.Resampling.LANCZOS)


def label_name(sample: Sample, dataset: Dataset) -> str:
    """Returns the name of the class of a sample; "" if it has no label."""
    return dataset.classes[sample.label] if sample.label is not None else ""


def unit(features: "Tensor") -> "Tensor":
    """Returns normalised feature vectors (n, d), float32, on the CPU; their products are cosines."""
    import torch

    return torch.nn.functional.normalize(features.float().cpu(), dim=-1)
