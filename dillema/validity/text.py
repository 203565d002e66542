"""The counterfactual must have a similar meaning to its caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from .. import hub
from ..backend import Dataset, Threshold
from ..fields import BatchSize, Cosine, Transient, Weight, Weights
from ..types import Counterfactual, Sample
from . import below, label_name, unit

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TextGate:
    """Compares texts by a sentence encoder of transformers (the mean of its last states, as MiniLM's).

    `similarity` is the cosine of the caption and the counterfactual. `label_distance` is 1 minus the
    highest cosine of the label and the old or new words of an edit, because an edit must not change the
    label; it is left out without a label. This gate does not look at images.
    """

    model: Weights[str]
    name: Transient[str] = "text"
    min_similarity: Transient[Cosine | None] = 0.5
    min_label_distance: Transient[Weight | None] = 0.3
    batch_size: BatchSize = 64
    device: Transient[str] = "auto"

    version: ClassVar[int] = 1
    scores: ClassVar[tuple[str, ...]] = ("similarity", "label_distance")
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "similarity": Threshold("min_similarity", "label"),
        "label_distance": Threshold("min_label_distance", "label"),
    }

    def load(self) -> None:
        """Loads the encoder and its tokenizer."""
        import transformers

        alternative = "validity=image"
        self._tokenizer = hub.load(transformers.AutoTokenizer, self.model, alternative)
        self._network = hub.network(transformers.AutoModel, self.model, alternative, self.device, "float32")

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float]]:
        """Returns the scores of each counterfactual."""
        rows = []
        for sample, counterfactual in zip(samples, counterfactuals, strict=True):
            caption, text = self._encode([counterfactual.caption, counterfactual.text])
            row = {"similarity": float(caption @ text)}
            words = [text for edit in counterfactual.edits for text in (edit.original, edit.words) if text]
            label = label_name(sample, dataset)
            if words and label:
                label_features, *edits = self._encode([label, *words])
                row["label_distance"] = 1 - max(float(edit @ label_features) for edit in edits)
            rows.append(row)
        return rows

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns the scores that are too low."""
        return [
            *below(scores, "similarity", self.min_similarity, "similarity with the caption"),
            *below(scores, "label_distance", self.min_label_distance, "distance of an edit from the label"),
        ]

    def _encode(self, texts: Sequence[str]) -> "Tensor":
        """Returns a normalised vector for each text; encodes each alone, so that no padding changes it."""
        import torch

        vectors = []
        for text in texts:
            tokens = self._tokenizer(text, truncation=True, return_tensors="pt").to(self._network.device)
            with torch.inference_mode():
                vectors.append(self._network(**tokens).last_hidden_state.mean(1))
        return unit(torch.cat(vectors))
