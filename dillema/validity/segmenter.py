"""An independent segmenter must see in the generated image what the mask says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from .. import hub
from ..backend import Dataset
from ..errors import ItemError
from ..metrics import confusion_matrix
from ..fields import BatchSize, Share, Transient, Weights
from ..model.logits import ClassMap
from ..model.transformers import TransformersSegmentation
from ..types import Counterfactual, Sample
from . import below


@dataclass
class SegmenterGate:
    """Compares the mask of a sample with what a segmenter predicts on the generated image.

    `agreement` is the mean intersection over union of the classes present in the mask, without those that
    the data set ignores. `worst_class` is the lowest one of a class that covers at least `min_class_share`
    of the compared pixels: the mean hides a pedestrian that vanished. For a sample without a mask, the
    prediction on the original image takes its place.

    `model` must not be a model under test, nor share weights with one; `class_map` is that of
    TransformersSegmentation.
    """

    model: Weights[str]
    name: Transient[str] = "segmenter"
    min_agreement: Transient[Share] = 0.5
    min_class_agreement: Transient[Share] = 0.0
    min_class_share: Share = 0.005
    class_map: ClassMap | None = None
    batch_size: BatchSize = 8
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"

    version: ClassVar[int] = 2
    scores: ClassVar[tuple[str, ...]] = ("agreement", "worst_class")

    def load(self) -> None:
        """Loads the segmenter."""
        self._segmenter = TransformersSegmentation(
            name=self.name,
            model=self.model,
            class_map=self.class_map,
            batch_size=self.batch_size,
            dtype=self.dtype,
            device=self.device,
        )
        self._segmenter.load()

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float] | Exception]:
        """Returns the scores of each image; an ItemError for a mask that holds ignored classes only."""
        pairs = zip(samples, images, self._segment(images), strict=True)
        return [self._compare(sample, image, predicted, dataset) for sample, image, predicted in pairs]

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns which agreement is too low."""
        return below(scores, "agreement", self.min_agreement, "agreement with the mask") + below(
            scores, "worst_class", self.min_class_agreement, "agreement in the worst class"
        )

    def _compare(
        self, sample: Sample, image: Image.Image, predicted: np.ndarray, dataset: Dataset
    ) -> dict[str, float] | Exception:
        mask = sample.mask
        if mask is None:
            (mask,) = self._segment([sample.image.resize(image.size, Image.Resampling.LANCZOS)])
        truth = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
        matrix = confusion_matrix(truth, predicted, dataset.ignored)
        hits, pixels = np.diagonal(matrix), matrix.sum(1)
        present = pixels > 0
        if not present.any():
            return ItemError(
                f"the mask of {sample.id} holds ignored classes only, so there is nothing to compare"
            )
        union = pixels + matrix.sum(0) - hits
        iou = hits[present] / union[present]
        large = pixels[present] >= self.min_class_share * pixels.sum()
        worst = {"worst_class": float(iou[large].min())} if large.any() else {}
        return {"agreement": float(iou.mean())} | worst

    def _segment(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Returns the class ids of every pixel."""
        return [logits.argmax(0).numpy().astype(np.uint8) for logits in self._segmenter.predict(images)]
