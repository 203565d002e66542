"""What in a caption may change, to what, and the caption afterwards."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ..backend import LanguageModel, Vary
from ..errors import ItemError
from ..fields import Positive, Weights
from ..types import Caption, Counterfactual, Edit, Expression, Variant
from .dialogue import ask_model, choice, object_schema
from .labels import KINDS_FILE, add_synonyms, label_positions, read_synonyms
from .matching import Match, best_match, find_matches
from .meaning import Meaning
from .phrases import rewrite_by_phrases
from .prompt import read_prompt
from .proposals import Proposer, describe
from .sentence import ask_everything, ask_sentence
from .substitute import substitute
from .vocabulary import FOLDER, load_vocabulary
from .words import WORDS


@dataclass
class Editor:
    """Finds what a caption expresses by the vocabulary and a language model, and rewrites the caption.

    Attributes:
        prompt: A text file, see `read_prompt`.
        vocabulary: Files of one's own, see `vocabulary/README.md`.
        spans: Where the expressions come from. `vocabulary`: from it alone for attributes that it has, and so
            are their values in the mode `listed` where none are listed; `model`: the language model is asked
            about attributes for which the vocabulary finds nothing, and for values that are not listed.
        mode: `listed` takes the values that are listed. In it and in `steps`, the language model is asked
            once for a caption, for all spans and free values that are needed; a variant takes one of several
            alternatives. `steps` and `single` are the paper's (arXiv 2502.04378): the language model also
            writes the sentence, in a request of its own or, in `single`, with everything else in one.
        method: How the sentence is written. `phrases`: by rule, with the phrases of the vocabulary; `llm`: by
            the language model, or by rule where its sentence does not fit; `substitute`: the words are
            replaced wherever they stand, and an attribute that is not expressed cannot change.
        synonyms: A file with synonyms of labels, see `read_synonyms`; they are not changed either.
        encoder: A sentence encoder (a folder or a hub id) that checks the spans that the language model
            chooses; a small language model needs it.
        max_words: Of a span that is offered to the language model.
        optional: Whether the language model may leave out attributes.
    """

    llm: LanguageModel
    prompt: Weights[str]
    vocabulary: Weights[list[str]] = field(default_factory=list)
    spans: Literal["vocabulary", "model"] = "model"
    mode: Literal["listed", "steps", "single"] = "listed"
    method: Literal["phrases", "llm", "substitute"] = "phrases"
    synonyms: Weights[str | None] = None
    encoder: Weights[str | None] = None
    max_words: Positive = 3
    optional: bool = True

    version: ClassVar[int] = 7
    package_data: ClassVar[tuple[Path, ...]] = (FOLDER, KINDS_FILE, WORDS)

    @property
    def batch_size(self) -> int:
        """Returns how many captions it can be asked about at the same time, in threads."""
        return self.llm.batch_size

    def load(self) -> None:
        """Reads prompt and vocabulary and loads the language model; raises a UserError when one cannot be."""
        stages = ["keywords", "proposals", "alternatives"]
        if self.mode == "steps" or self.method == "llm":
            stages.append("rewrite")
        turns = read_prompt(self.prompt, ["single"] if self.mode == "single" else stages)
        self._vocabulary = load_vocabulary(self.vocabulary)
        self._synonyms = read_synonyms(self.synonyms) if self.synonyms else {}
        self.llm.load([stage[:-1] for stage in turns.values()])
        meaning = Meaning(self.encoder, self._vocabulary) if self.encoder else None
        self._proposer = Proposer(self.llm, turns, self._vocabulary, self.max_words, self.optional, meaning)

    def keywords(self, caption: Caption, vary: Vary, label: str, seed: int) -> dict[str, Expression]:
        """Returns how the caption expresses each attribute, with "" for those that can be inserted."""
        label = add_synonyms(label, self._synonyms)
        matches = self._find_matches(caption.text, vary, label)
        expressions = self._by_vocabulary(caption.text, vary, label, matches)
        if self.mode != "single":
            expressions = self._by_model(caption.text, vary, label, expressions, matches, seed)
        elif self.method != "substitute":
            expressions = {a: expressions.get(a, Expression("")) for a in vary}
        if not expressions:
            raise ItemError(f"no words of the caption {caption.text!r} may change")
        return expressions

    def rewrite(
        self, caption: Caption, expressions: Mapping[str, Expression], variant: Variant, label: str, seed: int
    ) -> Counterfactual:
        """Returns the caption with one edit for each attribute of the variant."""
        text, label = caption.text, add_synonyms(label, self._synonyms)
        if not variant.changes:
            return Counterfactual(text, ())
        if self.mode == "single":
            matches = self._find_matches(text, expressions, label)
            unknown = [a for a in variant.changes if not expressions[a].span and self._asks_span(a)]
            offered = self._proposer.offered_spans(text, label, unknown, variant.changes, matches)
            return ask_everything(self._proposer, text, expressions, variant, offered, label, seed)
        values, alternatives = self._choose_values(text, expressions, variant, label, seed)
        edits = tuple(Edit(a, expressions[a].span, value) for a, value in values.items())
        if self.method == "substitute":
            return Counterfactual(substitute(text, edits), edits, "substitute", alternatives)
        if self.mode == "steps" or self.method == "llm":
            sentence = ask_sentence(self._proposer, text, expressions, values, label, seed)
            if sentence:
                return Counterfactual(sentence, edits, "llm", alternatives)
        sentence, edits = rewrite_by_phrases(text, self._vocabulary, expressions, values, label)
        return Counterfactual(sentence, edits, "phrases", alternatives)

    def _find_matches(self, text: str, attributes: Iterable[str], label: str) -> list[Match]:
        """Returns what the vocabulary finds in a caption."""
        matches = find_matches(text, self._vocabulary, attributes, label_positions(text, label))
        return [m for m in matches if not m.negated]

    def _by_vocabulary(
        self, text: str, vary: Vary, label: str, matches: Sequence[Match]
    ) -> dict[str, Expression]:
        """Returns the expressions of the attributes that the vocabulary finds."""
        expressions = {}
        for name, values in vary.items():
            attribute = self._vocabulary.get(name)
            own = [m for m in matches if m.attribute == name]
            if match := best_match(own, attribute, text, label_positions(text, label)):
                span = text[match.start : match.end]
                expressions[name] = Expression(span, attribute.listed(match.value, span, values))
        return expressions

    def _by_model(
        self,
        text: str,
        vary: Vary,
        label: str,
        known: Mapping[str, Expression],
        matches: Sequence[Match],
        seed: int,
    ) -> dict[str, Expression]:
        """Returns the expressions with what only the language model can tell, from one question."""
        unknown = [a for a in vary if a not in known and self._asks_span(a)]
        offered = self._proposer.offered_spans(text, label, unknown, vary, matches)
        can_change = [a for a in vary if a in known or a in offered or self.method != "substitute"]
        free = [a for a in can_change if not vary[a] and (self.mode == "steps" or self._asks_span(a))]
        spans, proposed = {a: e.span for a, e in known.items()}, {}
        if free:
            inserted = {a: "" for a in free if a not in offered}
            result = self._proposer.ask_all(text, label, inserted | spans, offered, free, seed)
            spans, proposed = result.spans, result.values
        else:
            spans |= self._proposer.ask_spans(text, label, offered, seed)
        expressions = {}
        for name in can_change:
            span = spans.get(name, "")
            if (name in free and name not in proposed) or (not span and self.method == "substitute"):
                continue
            listed = self._vocabulary.get(name).listed("", span, vary[name])
            value = known[name].value if name in known else listed
            expressions[name] = Expression(span, value, proposed.get(name, ()))
        return expressions

    def _asks_span(self, attribute: str) -> bool:
        """Returns whether the language model is asked where the vocabulary finds no words of an attribute."""
        return self.spans == "model" or not self._vocabulary.get(attribute).values

    def _choose_values(
        self, text: str, expressions: Mapping[str, Expression], variant: Variant, label: str, seed: int
    ) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        """Returns a value for each attribute, and the alternatives that the language model proposed."""
        rng = np.random.default_rng(seed)
        chosen: dict[str, str] = {}
        choices: dict[str, tuple[str, ...]] = {}
        for name, allowed in variant.changes.items():
            span, proposed = expressions[name].span, expressions[name].alternatives
            if len(allowed) > 1 and span:
                choices[name] = allowed
                continue
            candidates = allowed or proposed or self._other_values(name, span)
            if not candidates:
                raise ItemError(f"no value is known for {name} of the caption {text!r}")
            chosen[name] = candidates[int(rng.integers(len(candidates)))]
        replies = self._ask_choices(text, expressions, choices, label, seed) if choices else {}
        alternatives = {
            a: expressions[a].alternatives for a in variant.changes if expressions[a].alternatives
        } | {a: (value,) for a, value in replies.items()}
        return {a: (chosen | replies)[a] for a in variant.changes}, alternatives

    def _other_values(self, attribute: str, span: str) -> list[str]:
        """Returns the values that the vocabulary has for an attribute, without the one that a span means."""
        return [v.name for v in self._vocabulary.get(attribute).values if not v.is_expressed_by(span)]

    def _ask_choices(
        self,
        text: str,
        expressions: Mapping[str, Expression],
        choices: Mapping[str, Sequence[str]],
        label: str,
        seed: int,
    ) -> dict[str, str]:
        """Returns which of several listed values the language model takes for each attribute."""
        names = self._proposer.in_order_of_examples("alternatives", choices)
        changes = ", ".join(describe(a, expressions[a].span) for a in names)
        values = {"caption": text, "label": label, "changes": changes}
        messages = self._proposer.messages("alternatives", values)
        schema = object_schema({a: choice(choices[a]) for a in names}, required=True)
        reply: dict[str, str] = ask_model(self.llm, "alternatives", messages, schema, seed)
        return reply
