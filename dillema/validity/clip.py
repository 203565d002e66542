"""A model of images and texts (CLIP) must see the edit, the label and the scene."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from PIL import Image

from .. import hub
from ..backend import Dataset, Threshold
from ..execution import each_alone
from ..fields import BatchSize, Positive, Transient, Weights
from ..types import Counterfactual, Sample
from . import below, label_name, read_original, unit

if TYPE_CHECKING:
    from torch import Tensor

LOGIT_SCALE = 100  # the value that CLIP learned
PHRASES = 8_192  # phrases whose features are kept: 24 MB
Score = Literal[
    "image_image",
    "text_original",
    "text_generated",
    "direction",
    "label",
    "label_text",
    "label_distance",
    "edit_margin",
]
WORDS_BY_SCORE: dict[Score, str] = {
    "image_image": "similarity with the original",
    "text_original": "similarity of the original with the caption",
    "text_generated": "similarity with the counterfactual",
    "direction": "similarity of the changes of image and text",
    "label": "probability of the label",
    "label_text": "similarity with the label",
    "label_distance": "distance of an edit from the label",
    "edit_margin": "advantage of the new words over the old ones",
}


@dataclass
class ClipGate:
    """Compares images and texts by the cosines of their CLIP features.

    `image_image` compares the two images, `text_original` the original with the caption, `text_generated`
    the generated image with the counterfactual. For edited images, `direction` compares the change of the
    images with the change of the texts (Gal et al., 2022); `edit_margin` is the similarity of the generated
    image to the new words minus that to the old ones, the smallest of all edits (LANCE, Prabhu et al.,
    2023). For samples with a label, `label_text` compares the generated image with `prompt`, `label` is the
    probability of the label among all classes, and `label_distance` is 1 minus the highest cosine of
    replaced words and label (LANCE).

    `minimum` gives the lowest allowed value of a score by its name. An image must pass `needed` of those
    that apply to it; null: all.
    """

    model: Weights[str]
    name: Transient[str] = "clip"
    minimum: Transient[Mapping[Score, float]] = field(default_factory=dict)
    needed: Transient[Positive | None] = None
    prompt: str = "a photo of a {label}"
    batch_size: BatchSize = 16
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"

    version: ClassVar[int] = 2
    scores: ClassVar[tuple[str, ...]] = get_args(Score)
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "image_image": Threshold("minimum.image_image", "label"),
        "label": Threshold("minimum.label", "label"),
        "label_text": Threshold("minimum.label_text", "label"),
        "label_distance": Threshold("minimum.label_distance", "label"),
        "text_generated": Threshold("minimum.text_generated", "edit"),
        "direction": Threshold("minimum.direction", "edit"),
        "edit_margin": Threshold("minimum.edit_margin", "edit"),
    }

    def load(self) -> None:
        """Loads the model and its processor."""
        import transformers

        alternative = "validity=image"
        self._processor = hub.load(transformers.AutoProcessor, self.model, alternative)
        self._network = hub.network(transformers.AutoModel, self.model, alternative, self.device, self.dtype)
        # the same classes and values occur many times
        self._encode_phrase = lru_cache(PHRASES)(self._encode_text)

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float]]:
        """Returns the scores that apply to each image."""
        originals = [read_original(sample, image) for sample, image in zip(samples, images, strict=True)]
        features = each_alone(self._encode_images, [*originals, *images], hub.is_on_cpu(self.device))
        pairs = zip(features[: len(images)], features[len(images) :], strict=True)
        rows = []
        for sample, counterfactual, (original, generated) in zip(
            samples, counterfactuals, pairs, strict=True
        ):
            row = self._compare(original, generated, counterfactual)
            label = label_name(sample, dataset)
            if label:
                row |= self._compare_label(generated, counterfactual, label, dataset.classes)
            rows.append(row)
        return rows

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns the scores that are too low, if there are too many of them."""
        floors = {name: floor for name, floor in self.minimum.items() if name in scores}
        failed = [
            reason
            for name, floor in floors.items()
            for reason in below(scores, name, floor, WORDS_BY_SCORE[name])
        ]
        allowed = max(len(floors) - self.needed, 0) if self.needed else 0
        return failed if len(failed) > allowed else []

    def _compare(
        self, original: "Tensor", generated: "Tensor", counterfactual: Counterfactual
    ) -> dict[str, float]:
        caption, text = self._encode_text(counterfactual.caption), self._encode_text(counterfactual.text)
        row = {
            "image_image": float(original @ generated),
            "text_original": float(original @ caption),
            "text_generated": float(generated @ text),
        }
        if counterfactual.edits:
            row["direction"] = float(unit(generated - original) @ unit(text - caption))
        margins = [
            float(generated @ (self._encode_phrase(edit.words) - self._encode_phrase(edit.original)))
            for edit in counterfactual.edits
            if edit.original
        ]
        return row | ({"edit_margin": min(margins)} if margins else {})

    def _compare_label(
        self, generated: "Tensor", counterfactual: Counterfactual, label: str, classes: Sequence[str]
    ) -> dict[str, float]:
        import torch

        prompts = torch.stack([self._encode_phrase(self.prompt.format(label=name)) for name in classes])
        cosines = prompts @ generated
        position = list(classes).index(label)
        row = {
            "label_text": float(cosines[position]),
            "label": float((LOGIT_SCALE * cosines).softmax(0)[position]),
        }
        replaced = [self._encode_phrase(edit.original) for edit in counterfactual.edits if edit.original]
        cosines_of_edits = [float(words @ self._encode_phrase(label)) for words in replaced]
        return row | ({"label_distance": 1 - max(cosines_of_edits)} if cosines_of_edits else {})

    def _encode_images(self, images: Sequence[Image.Image]) -> "list[Tensor]":
        import torch

        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            output = self._network.get_image_features(
                pixel_values=pixels.to(self._network.device, self._network.dtype)
            )
        return list(unit(output.pooler_output))

    def _encode_text(self, text: str) -> "Tensor":
        import torch

        tokens = self._processor(text=[text], padding="max_length", truncation=True, return_tensors="pt")
        with torch.inference_mode():
            output = self._network.get_text_features(**tokens.to(self._network.device))
        return unit(output.pooler_output)[0]
