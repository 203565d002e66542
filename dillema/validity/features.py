"""The generated image must show the scene of the original, but not be the original."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from .. import hub
from ..backend import Dataset, Threshold
from ..errors import UserError
from ..execution import each_alone
from ..fields import BatchSize, Cosine, Share, Transient, Weight, Weights
from ..types import Counterfactual, Sample
from . import below, read_original, unit

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class FeaturesGate:
    """Compares the generated image with the original by an image encoder and a perceptual hash.

    `similarity` is the cosine of their features; it is low if another scene was painted. For edited images,
    `change` is 1 minus the similarity, and `hash_change` is the share of the 64 bits of a perceptual hash
    (pHash) that differ; both are low if nothing changed.
    """

    model: Weights[str]
    name: Transient[str] = "features"
    min_similarity: Transient[Cosine | None] = 0.4
    min_change: Transient[Weight | None] = 0.1
    min_hash_change: Transient[Share | None] = None
    batch_size: BatchSize = 16
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"

    version: ClassVar[int] = 2
    scores: ClassVar[tuple[str, ...]] = ("similarity", "change", "hash_change")
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "similarity": Threshold("min_similarity", "label"),
        "change": Threshold("min_change", "edit"),
        "hash_change": Threshold("min_hash_change", "edit"),
    }

    def load(self) -> None:
        """Loads the encoder; raises a UserError without the package imagehash."""
        import transformers

        try:
            import imagehash
        except ImportError as error:
            raise UserError(
                f"validity.{self.name} needs the package imagehash: pip install 'dillema[gates]'"
            ) from error
        self._hash = imagehash.phash
        alternative = "validity=image"
        self._processor = hub.load(transformers.AutoImageProcessor, self.model, alternative)
        self._network = hub.network(transformers.AutoModel, self.model, alternative, self.device, self.dtype)

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float]]:
        """Returns the similarity of each image and, for edited images, how much changed."""
        originals = [read_original(sample, image) for sample, image in zip(samples, images, strict=True)]
        is_on_cpu = hub.is_on_cpu(self.device)
        features = [each_alone(self._encode, side, is_on_cpu) for side in (originals, images)]
        rows = []
        for counterfactual, original, image, before, after in zip(
            counterfactuals, originals, images, *features, strict=True
        ):
            cosine = float(before @ after)
            row = {"similarity": cosine}
            if counterfactual.edits:
                bits = self._hash(original) - self._hash(image)
                row |= {"change": 1 - cosine, "hash_change": bits / 64}
            rows.append(row)
        return rows

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns whether the image shows another scene, or nothing changed."""
        return [
            *below(scores, "similarity", self.min_similarity, "similarity with the original"),
            *below(scores, "change", self.min_change, "change of the features"),
            *below(scores, "hash_change", self.min_hash_change, "change of the perceptual hash"),
        ]

    def _encode(self, images: Sequence[Image.Image]) -> "list[Tensor]":
        """Returns one feature vector of length 1 an image."""
        import torch

        pixels = self._processor(list(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            output = self._network(pixel_values=pixels.to(self._network.device, self._network.dtype))
        return list(unit(output.pooler_output))
