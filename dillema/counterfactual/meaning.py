"""Whether words express an attribute, by a sentence encoder."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .. import hub
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

ALTERNATIVE = "prompt.encoder=null"
MIN_SIMILARITY = 0.45
MIN_MARGIN = 0.05
"""Chosen on 210 spans of the development half of the tests' captions: they let through under 3 % of them."""


class Meaning:
    """Compares words with the values of attributes by a sentence encoder (the mean of its last states).

    Sentence-BERT: Reimers and Gurevych 2019, arXiv 1908.10084. Every text is encoded alone, so that no
    padding changes a vector.
    """

    def __init__(self, model: str, vocabulary: Vocabulary):
        import transformers

        self._tokenizer: Any = hub.load(transformers.AutoTokenizer, model, ALTERNATIVE)
        self._network: Any = hub.network(transformers.AutoModel, model, ALTERNATIVE, "cpu", "float32")
        self._vocabulary = vocabulary
        self._vectors: dict[str, Tensor] = {}

    def expresses(self, words: str, attribute: str) -> bool:
        """Returns whether words are closer to the values of an attribute than to those of all others.

        Of a place only the similarity counts, because so many things can be one. Of an attribute that the
        vocabulary does not have nothing is known, so that all words express it.
        """
        own = self._vocabulary.get(attribute)
        if not own.values:
            return True
        similarity = self._similarity(words, self._words_of[own.name])
        others = tuple(w for name, ws in self._words_of.items() if name != own.name for w in ws)
        is_closest = own.prepositions or similarity - self._similarity(words, others) >= MIN_MARGIN
        return similarity >= MIN_SIMILARITY and is_closest

    @cached_property
    def _words_of(self) -> dict[str, tuple[str, ...]]:
        """The names and nouns of the values of each attribute."""
        words = {}
        for attribute in self._vocabulary.attributes:
            nouns = (value.write("noun") or value.name for value in attribute.values)
            names = (value.name for value in attribute.values)
            words[attribute.name] = tuple(dict.fromkeys([attribute.name, *names, *nouns]))
        return words

    def _similarity(self, words: str, others: Sequence[str]) -> float:
        """Returns the highest cosine of words with one of several others."""
        vector = self._encode(words)
        return max(float(vector @ self._encode(other)) for other in others)

    def _encode(self, text: str) -> "Tensor":
        import torch

        if text not in self._vectors:
            tokens = self._tokenizer(text, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                vector = self._network(**tokens).last_hidden_state.mean(1)[0]
            self._vectors[text] = vector / vector.norm()
        return self._vectors[text]
