"""An independent segmenter must find the classes of the mask in the generated image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from .. import hub
from ..backend import CLASS_SCORE, Dataset, Threshold
from ..errors import ItemError
from ..fields import BatchSize, Positive, Share, Transient, Weights
from ..metrics import confusion_matrix, iou_per_class
from ..model.classes import check_classes
from ..model.logits import ClassMap
from ..model.transformers import TransformersMaskSegmentation, TransformersSegmentation
from ..types import Counterfactual, Sample
from . import below, read_original


@dataclass
class SegmenterGate:
    """Compares the mask of a sample with what a segmenter predicts on the generated image.

    `agreement` is the mean intersection over union of the classes present in the mask, without those that
    the data set ignores. `worst_class` is the lowest value of a class that covers at least `min_class_share`
    of the compared pixels, because the mean hides a missing pedestrian. Each class in the mask also has a
    score of its own, for which `min_class_agreements` holds thresholds, as in {pedestrian: 0.2}. For a sample
    without a mask, the prediction on the original image replaces the mask.

    `model` must not be a model under test, nor share weights with one. `kind` is the form of its output: a
    class for each of the `pixels` (SegFormer, UPerNet), or `masks` with a class each (Mask2Former). Its
    classes are mapped to those of the data set as for a model under test (see `check_classes`). `short_side`
    is that of its input (see `dillema.model.transformers`).
    """

    model: Weights[str]
    name: Transient[str] = "segmenter"
    min_agreement: Transient[Share] = 0.5
    min_class_agreement: Transient[Share] = 0.0
    min_class_agreements: Transient[Mapping[str, Share]] = field(default_factory=dict)
    min_class_share: Share = 0.005
    kind: Literal["pixels", "masks"] = "pixels"
    class_map: ClassMap | None = None
    default_class_map: Mapping[str, str] | None = None
    short_side: Positive | None = None
    batch_size: BatchSize = 8
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"

    version: ClassVar[int] = 4
    scores: ClassVar[tuple[str, ...]] = ("agreement", "worst_class")
    scores_classes: ClassVar[bool] = True
    compares_masks: ClassVar[bool] = True
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "agreement": Threshold("min_agreement", "label"),
        "worst_class": Threshold("min_class_agreement", "label"),
    }

    def load(self) -> None:
        """Loads the segmenter."""
        segmenter = TransformersMaskSegmentation if self.kind == "masks" else TransformersSegmentation
        self._segmenter = segmenter(
            name=self.name,
            model=self.model,
            class_map=self.class_map,
            default_class_map=self.default_class_map,
            short_side=self.short_side,
            batch_size=self.batch_size,
            dtype=self.dtype,
            device=self.device,
        )
        self._segmenter.load()
        self._is_mapped = False

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float] | Exception]:
        """Returns the scores of each image; an ItemError for a mask that holds ignored classes only."""
        if not self._is_mapped:
            class_map = check_classes(self._segmenter, dataset, "validity")
            if class_map is not None:
                self._segmenter.class_map = {index: target for index, target in class_map.items()}
            self._is_mapped = True
        pairs = zip(samples, images, self._segment(images), strict=True)
        return [self._compare(sample, image, predicted, dataset) for sample, image, predicted in pairs]

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns the scores that are too low."""
        worst = below(scores, "worst_class", self.min_class_agreement, "agreement in the worst class")
        of_classes = [
            reason
            for name, least in self.min_class_agreements.items()
            for reason in below(scores, f"{CLASS_SCORE}{name}", least, f"agreement in {name}")
        ]
        return [
            *below(scores, "agreement", self.min_agreement, "agreement with the mask"),
            *worst,
            *of_classes,
        ]

    def _compare(
        self, sample: Sample, image: Image.Image, predicted: np.ndarray, dataset: Dataset
    ) -> dict[str, float] | Exception:
        mask = sample.mask
        if mask is None:
            (mask,) = self._segment([read_original(sample, image)])
        truth = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
        matrix = confusion_matrix(truth, predicted, dataset.ignored)
        pixels = matrix.sum(1)
        present = pixels > 0
        if not present.any():
            return ItemError(
                f"the mask of {sample.id} holds ignored classes only: there is nothing to compare"
            )
        iou = iou_per_class(np.diagonal(matrix), pixels, matrix.sum(0))
        large = pixels >= self.min_class_share * pixels.sum()
        worst = {"worst_class": float(iou[present & large].min())} if (present & large).any() else {}
        # the ids of a mask may be those of other classes (see mini_imagenet), without it the segmenter's own
        is_named = sample.mask is not None and len(dataset.classes) == len(dataset.colours)
        named = np.flatnonzero(present & is_named)
        of_classes = {f"{CLASS_SCORE}{dataset.classes[i]}": float(iou[i]) for i in named}
        return {"agreement": float(iou[present].mean())} | worst | of_classes

    def _segment(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Returns the class ids of every pixel."""
        return [logits.argmax(0).numpy().astype(np.uint8) for logits in self._segmenter.predict(images)]
