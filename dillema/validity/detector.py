"""An open-vocabulary detector must find the labelled object in the generated image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from .. import hub
from ..backend import Dataset, Threshold
from ..execution import each_alone
from ..fields import BatchSize, Share, Transient, Weights
from ..types import Counterfactual, Sample
from . import below, label_name, read_original

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class DetectorGate:
    """Asks a detector of transformers (OWLv2, Grounding DINO) for the label of a sample.

    `label` is the confidence of the best box in the generated image, `original_label` that in the original.
    An object that the detector does not find in the original is not used against the image. `overlap` is
    the intersection over union of the two boxes.
    """

    model: Weights[str]
    name: Transient[str] = "detector"
    min_label: Transient[Share] = 0.1
    min_original: Transient[Share] = 0.1
    min_overlap: Transient[Share] = 0.0
    prompt: str = "a photo of a {label}"
    batch_size: BatchSize = 4
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"

    version: ClassVar[int] = 2
    scores: ClassVar[tuple[str, ...]] = ("label", "original_label", "overlap")
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "label": Threshold("min_label", "label"),
        "overlap": Threshold("min_overlap", "label"),
    }

    def load(self) -> None:
        """Loads the detector and its processor."""
        import transformers

        alternative = "validity=image"
        self._processor = hub.load(transformers.AutoProcessor, self.model, alternative)
        self._network = hub.network(
            transformers.AutoModelForZeroShotObjectDetection, self.model, alternative, self.device, self.dtype
        )

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float]]:
        """Returns the scores of each image; none for a sample without a label."""
        rows: list[dict[str, float]] = [{} for _ in images]
        labels = [label_name(sample, dataset) for sample in samples]
        positions = [position for position, label in enumerate(labels) if label]
        if not positions:
            return rows
        originals = [read_original(samples[position], images[position]) for position in positions]
        generated = [images[position] for position in positions]
        texts = [self.prompt.format(label=labels[position]).lower() for position in positions]
        # its tokenizer keeps the padding of the last call, so that threads must not share it
        before, after = (
            each_alone(self._detect, list(zip(side, texts, strict=True)), hub.is_on_cpu(self.device), False)
            for side in (originals, generated)
        )
        for position, (original_score, original_box), (score, box) in zip(
            positions, before, after, strict=True
        ):
            overlap = _overlap(original_box, box)
            rows[position] = {"label": score, "original_label": original_score, "overlap": overlap}
        return rows

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns whether an object that the detector finds in the original is missing or has moved."""
        if scores.get("original_label", 0.0) < self.min_original:
            return []
        return [
            *below(scores, "label", self.min_label, "confidence of the label"),
            *below(scores, "overlap", self.min_overlap, "overlap with the object of the original"),
        ]

    def _detect(self, pairs: Sequence[tuple[Image.Image, str]]) -> list[tuple[float, "Tensor"]]:
        """Returns confidence and corners of the best box for the text in each image."""
        import torch

        images, texts = zip(*pairs, strict=True)
        pixels = self._processor.image_processor(list(images), return_tensors="pt")
        # the processor of OWLv2 would pad each text separately
        tokens = self._processor.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        inputs = {**pixels.to(self._network.device, self._network.dtype), **tokens.to(self._network.device)}
        with torch.inference_mode():
            output = self._network(**inputs)
        detections = self._processor.post_process_grounded_object_detection(
            output, threshold=-1.0, target_sizes=[(image.height, image.width) for image in images]
        )
        boxes = []
        for detection in detections:
            best = int(detection["scores"].argmax())
            boxes.append((float(detection["scores"][best]), detection["boxes"][best].float().cpu()))
        return boxes


def _overlap(first: "Tensor", second: "Tensor") -> float:
    """Returns the intersection over union of two boxes, given by their corners."""
    from torchvision.ops import box_iou

    return float(box_iou(first[None], second[None])[0, 0])
