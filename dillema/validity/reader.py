"""A classifier of attributes must see in the generated image what was edited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from .. import hub
from ..backend import Dataset, Threshold
from ..errors import UserError
from ..execution import each_alone
from ..fields import BatchSize, Share, Transient, Weights
from ..types import Counterfactual, Sample
from . import below

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ReaderGate:
    """Asks an image classifier of transformers which value each edited attribute has.

    `attributes` names the classes of the model that are the values of each attribute; the probabilities of
    one attribute add up to 1. `edited` is the lowest probability of a new value, because all edits must
    show. An edit to a value that is no class of the model is left out.
    """

    model: Weights[str]
    attributes: Mapping[str, Sequence[str]]
    name: Transient[str] = "reader"
    min_edited: Transient[Share] = 0.5
    batch_size: BatchSize = 16
    dtype: hub.DType = "float32"
    device: Transient[str] = "auto"

    version: ClassVar[int] = 2
    scores: ClassVar[tuple[str, ...]] = ("edited",)
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "edited": Threshold("min_edited", "edit"),
    }

    def load(self) -> None:
        """Loads the classifier; raises a UserError for a class that it does not have."""
        import transformers

        alternative = "validity=none"
        self._processor = hub.load(transformers.AutoImageProcessor, self.model, alternative)
        self._network = hub.network(
            transformers.AutoModelForImageClassification, self.model, alternative, self.device, self.dtype
        )
        index_of = {name: index for index, name in self._network.config.id2label.items()}
        for attribute, values in self.attributes.items():
            for value in values:
                if value not in index_of:
                    raise UserError(
                        f"validity.{self.name}.attributes.{attribute}: {self.model} has no class {value}; "
                        f"it has {', '.join(index_of)}"
                    )
        self._indices = {
            attribute: [index_of[value] for value in values] for attribute, values in self.attributes.items()
        }

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float]]:
        """Returns the lowest probability of an edited value; no score for a placebo."""
        logits = each_alone(self._classify, images, hub.is_on_cpu(self.device))
        rows = []
        for counterfactual, row in zip(counterfactuals, logits, strict=True):
            probabilities = [
                float(row[self._indices[edit.attribute]].softmax(0)[values.index(edit.replacement)])
                for edit in counterfactual.edits
                if edit.replacement in (values := self.attributes.get(edit.attribute, ()))
            ]
            rows.append({"edited": min(probabilities)} if probabilities else {})
        return rows

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns whether the classifier misses an edit."""
        return below(scores, "edited", self.min_edited, "probability of what was edited")

    def _classify(self, images: Sequence[Image.Image]) -> "list[Tensor]":
        """Returns the logits of each image."""
        import torch

        pixels = self._processor(list(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            output = self._network(pixel_values=pixels.to(self._network.device, self._network.dtype))
        return list(output.logits.float().cpu())
