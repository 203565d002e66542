"""A floor: an independent segmenter must find in the generated image what the mask says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from .. import hub
from ..errors import ItemError
from ..evaluation.confusion import confusion
from ..evaluation.statistics import mean_iou
from ..model import ClassMap
from ..model.transformers import TransformersSegmentation
from ..types import Dataset, Sample


@dataclass
class SegmenterGate:
    """Scores `mask_agreement`, the mean IoU of a segmenter's prediction on the generated image with the sample's mask.

    The mean goes over the classes present in the mask, those that the data set ignores left out. For a sample without a
    mask, what the segmenter sees in the original image takes its place. An image counts from `min_agreement` on.
    `model` must not be the model under test, nor share weights with it; `class_map` is as in TransformersClassification.
    """

    model: str
    min_agreement: float = 0.5
    class_map: ClassMap | None = None
    batch_size: int = 8
    dtype: hub.DType = "float32"
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("min_agreement", "batch_size", "device")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ("model",)

    def load(self) -> None:
        """Loads the segmenter."""
        self._segmenter = TransformersSegmentation("judge", self.model, self.class_map, self.batch_size, self.dtype, self.device)
        self._segmenter.load()

    def score(self, samples: Sequence[Sample], images: Sequence[Image.Image], dataset: Dataset) -> list[dict[str, float]]:
        """Returns {"mask_agreement": 0 to 1} for each image; raises an ItemError where the mask holds ignored classes only."""
        scores = []
        for sample, image, predicted in zip(samples, images, self._segment(images), strict=True):
            mask = sample.mask
            if mask is None:
                (mask,) = self._segment([sample.image.resize(image.size, Image.Resampling.LANCZOS)])
            truth = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
            agreement = mean_iou(confusion(truth, predicted, dataset.ignored))
            if np.isnan(agreement):
                raise ItemError(f"the mask of {sample.id} holds ignored classes only, so there is nothing to compare")
            scores.append({"mask_agreement": float(agreement)})
        return scores

    def verdict(self, scores: Mapping[str, float]) -> bool:
        """Returns whether the agreement is high enough."""
        return scores["mask_agreement"] >= self.min_agreement

    def _segment(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        return [logits.argmax(0).numpy().astype(np.uint8) for logits in self._segmenter.predict(images)]
