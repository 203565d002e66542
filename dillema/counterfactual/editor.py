"""What in a caption may change, to what, and the caption afterwards."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ..backend import LanguageModel, Message, Vary
from ..errors import ItemError
from ..fields import Positive, Weights
from ..types import Caption, Counterfactual, Edit, Expression, Variant
from .check import check_sentence, is_other_value
from .dialogue import Field, ask_model, free_value, object_schema
from .labels import KINDS_FILE, label_positions
from .matching import Match, best_match, find_matches
from .phrases import rewrite_by_phrases
from .prompt import read_prompt
from .spans import candidate_spans, other_values, share_words
from .substitute import substitute
from .vocabulary import FOLDER, load_vocabulary
from .words import WORDS

ALTERNATIVES = 4  # that are asked for, of which one is drawn
WORD = "[A-Za-z'-]{1,18}[,.]?"
NOT_MENTIONED = "not mentioned"  # stands for the span of an attribute that the caption does not express


@dataclass
class Editor:
    """Finds what a caption expresses by the vocabulary and a language model, and rewrites the caption.

    Attributes:
        prompt: A text file, see `read_prompt`.
        vocabulary: Files of one's own, see `vocabulary/README.md`.
        spans: Where the expressions come from. `vocabulary`: from it alone for attributes that it has, and so
            are their values where none are listed; `model`: the language model is asked about attributes for
            which the vocabulary finds nothing, and for values that are not listed.
        mode: `listed` takes the values that are listed. `steps` and `single` are the paper's (arXiv
            2502.04378): the language model names spans, several alternatives for each, and writes the
            sentence, in three requests or in one.
        method: How the sentence is written. `phrases`: by rule, with the phrases of the vocabulary; `llm`: by
            the language model, or by rule where its sentence does not fit; `substitute`: the words are
            replaced wherever they stand, and an attribute that is not expressed cannot change.
        max_words: Of a span that is offered to the language model.
        optional: Whether the language model may leave out attributes.
    """

    llm: LanguageModel
    prompt: Weights[str]
    vocabulary: Weights[list[str]] = field(default_factory=list)
    spans: Literal["vocabulary", "model"] = "model"
    mode: Literal["listed", "steps", "single"] = "listed"
    method: Literal["phrases", "llm", "substitute"] = "phrases"
    max_words: Positive = 3
    optional: bool = True

    version: ClassVar[int] = 3
    package_data: ClassVar[tuple[Path, ...]] = (FOLDER, KINDS_FILE, WORDS)

    @property
    def batch_size(self) -> int:
        """Returns how many captions it can be asked about at the same time, in threads."""
        return self.llm.batch_size

    def load(self) -> None:
        """Reads prompt and vocabulary and loads the language model; raises a UserError when one cannot be."""
        stages = {"single": ("single",), "steps": ("rewrite",)}.get(
            self.mode, ("rewrite",) * (self.method == "llm")
        )
        self._turns = read_prompt(self.prompt, stages)
        self._vocabulary = load_vocabulary(self.vocabulary)
        self.llm.load([turns[:-1] for turns in self._turns.values()])

    def keywords(self, caption: Caption, vary: Vary, label: str, seed: int) -> dict[str, Expression]:
        """Returns how the caption expresses each attribute, with "" for those that can be inserted."""
        label_ranges = label_positions(caption.text, label)
        matches = [
            m for m in find_matches(caption.text, self._vocabulary, vary, label_ranges) if not m.negated
        ]
        expressions: dict[str, Expression] = {}
        for name, values in vary.items():
            attribute = self._vocabulary.get(name)
            own = [m for m in matches if m.attribute == name]
            if match := best_match(own, attribute, caption.text, label_ranges):
                span = caption.text[match.start : match.end]
                expressions[name] = Expression(span, attribute.listed(match.value, span, values))
        if self.mode != "listed":
            expressions = {}
        unknown = [a for a in vary if a not in expressions and (self._asks_model(a))]
        expressions |= self._ask_spans(caption.text, unknown, vary, label, matches, seed)
        if self.mode == "listed" and self.method != "substitute":
            expressions = {a: expressions.get(a, Expression("")) for a in vary}
        if not expressions:
            raise ItemError(f"no words of the caption {caption.text!r} may change")
        return {a: expressions[a] for a in vary if a in expressions}

    def rewrite(
        self, caption: Caption, expressions: Mapping[str, Expression], variant: Variant, label: str, seed: int
    ) -> Counterfactual:
        """Returns the caption with one edit for each attribute of the variant."""
        if not variant.changes:
            return Counterfactual(caption.text, ())
        if self.mode == "single":
            return self._rewrite_at_once(caption.text, expressions, variant, label, seed)
        values, alternatives = self._choose_values(caption.text, expressions, variant, label, seed)
        if self.method == "substitute":
            edits = tuple(Edit(a, expressions[a].span, value) for a, value in values.items())
            return Counterfactual(substitute(caption.text, edits), edits, "substitute", alternatives)
        if self.mode == "steps" or self.method == "llm":
            sentence = self._ask_sentence(caption.text, expressions, values, label, seed)
            if sentence:
                edits = tuple(Edit(a, expressions[a].span, value) for a, value in values.items())
                return Counterfactual(sentence, edits, "llm", alternatives)
        text, edits = rewrite_by_phrases(caption.text, self._vocabulary, expressions, values, label)
        return Counterfactual(text, edits, "phrases", alternatives)

    def _asks_model(self, attribute: str) -> bool:
        """Returns whether the language model is asked where the vocabulary finds nothing for an attribute."""
        return self.mode != "listed" or self.spans == "model" or self._vocabulary.find(attribute) is None

    def _ask_spans(
        self,
        text: str,
        attributes: Sequence[str],
        vary: Vary,
        label: str,
        matches: Sequence[Match],
        seed: int,
    ) -> dict[str, Expression]:
        """Returns the spans that the language model names, of which no two overlap.

        No word of the label is offered, nor one that expresses another attribute. Of two spans that overlap
        the longer one is dropped, or of equal ones the earlier: the later was chosen with more known.
        """
        fields: dict[str, Field] = {}
        for attribute in self._in_order_of_examples(attributes):
            ranges_of_others = [m.range for m in matches if m.attribute != attribute]
            spans = candidate_spans(text, [*label_positions(text, label), *ranges_of_others], self.max_words)
            foreign = other_values(vary, attribute)
            if offered := [
                s for s in spans if not share_words(s, foreign) and self._can_express(attribute, s)
            ]:
                fields[attribute] = {"type": "string", "enum": offered}
        if not fields:
            return {}
        schema = object_schema(fields, required=not self.optional)
        question = {"caption": text, "label": label, "attributes": ", ".join(fields)}
        reply: dict[str, str] = ask_model(
            self.llm, "keywords", self._messages("keywords", question), schema, seed
        )
        chosen: dict[str, str] = {}
        for attribute, span in sorted(reversed(reply.items()), key=lambda item: len(item[1])):
            if not any(share_words(span, chosen_span) for chosen_span in chosen.values()):
                chosen[attribute] = span
        return {a: Expression(s, self._vocabulary.get(a).listed("", s, vary[a])) for a, s in chosen.items()}

    def _can_express(self, attribute: str, span: str) -> bool:
        """Returns whether no word of a span is known as a value of other attributes only."""
        own = self._vocabulary.get(attribute).name
        meanings = [set(self._vocabulary.find_attributes(word)) for word in {span, *span.split()}]
        return all(not names or own in names for names in meanings)

    def _choose_values(
        self, text: str, expressions: Mapping[str, Expression], variant: Variant, label: str, seed: int
    ) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        """Returns a value for each attribute, and the alternatives that the language model was asked for."""
        rng = np.random.default_rng(seed)
        chosen: dict[str, str] = {}
        for name, allowed in variant.changes.items():
            if len(allowed) == 1:
                chosen[name] = allowed[0]
                continue
            candidates = (
                [] if expressions[name].span else list(allowed)
            )  # a choice can depend on nothing there
            if not allowed and self.mode == "listed" and self.spans == "vocabulary":
                candidates = self._other_values(name, expressions[name].span)
            if candidates:
                chosen[name] = str(rng.choice(candidates))
        alternatives: dict[str, tuple[str, ...]] = {}
        unknown = [a for a in variant.changes if a not in chosen]
        if unknown:
            alternatives = self._ask_alternatives(
                text, expressions, {a: variant.changes[a] for a in unknown}, label, seed
            )
            chosen |= {a: values[int(rng.integers(len(values)))] for a, values in alternatives.items()}
        return {a: chosen[a] for a in variant.changes}, alternatives

    def _other_values(self, attribute: str, span: str) -> list[str]:
        """Returns the values that the vocabulary has for an attribute, without the one that a span means."""
        return [v.name for v in self._vocabulary.get(attribute).values if not v.is_expressed_by(span)]

    def _ask_alternatives(
        self,
        text: str,
        expressions: Mapping[str, Expression],
        allowed: Mapping[str, Sequence[str]],
        label: str,
        seed: int,
    ) -> dict[str, tuple[str, ...]]:
        """Returns the values that the language model proposes: one each, several in `steps`."""
        fields: dict[str, Field] = {}
        for name in self._in_order_of_examples(allowed):
            free = free_value(expressions[name].span)
            value_schema = {"type": "string", "enum": list(allowed[name])} if allowed[name] else free
            several = {"type": "array", "items": value_schema, "minItems": 1, "maxItems": ALTERNATIVES}
            fields[name] = several if self.mode == "steps" else value_schema

        def usable(reply: Any) -> dict[str, tuple[str, ...]]:
            values = {a: reply[a] if isinstance(reply[a], list) else [reply[a]] for a in allowed}
            return {
                a: tuple(
                    v for v in dict.fromkeys(proposed)
                    if allowed[a] or is_other_value(self._vocabulary, a, v, expressions, label)
                )
                for a, proposed in values.items()
            }  # fmt: skip

        changes = ", ".join(f"{a}: {expressions[a].span or NOT_MENTIONED}" for a in fields)
        messages = self._messages("alternatives", {"caption": text, "label": label, "changes": changes})
        schema = object_schema(fields, required=True)
        return usable(
            ask_model(
                self.llm, "alternatives", messages, schema, seed, lambda reply: all(usable(reply).values())
            )
        )

    def _ask_sentence(
        self,
        text: str,
        expressions: Mapping[str, Expression],
        values: Mapping[str, str],
        label: str,
        seed: int,
    ) -> str:
        """Returns the language model's sentence with the new values, "" where none fits."""
        changes = ", ".join(
            f"{a}: {expressions[a].span or NOT_MENTIONED} -> {value}" for a, value in values.items()
        )
        schema = object_schema(
            {"caption": {"type": "string", "pattern": sentence_pattern(text, values.values())}}, required=True
        )
        messages = self._messages("rewrite", {"caption": text, "label": label, "changes": changes})

        def accept(reply: Any) -> bool:
            return check_sentence(self._vocabulary, text, reply["caption"], expressions, values, label)

        try:
            return str(ask_model(self.llm, "rewrite", messages, schema, seed, accept, attempts=1)["caption"])
        except ItemError:
            return ""

    def _rewrite_at_once(
        self, text: str, expressions: Mapping[str, Expression], variant: Variant, label: str, seed: int
    ) -> Counterfactual:
        """Returns the counterfactual of one request, written by rule where the sentence does not fit."""
        fields: dict[str, Field] = {}
        for name, allowed in variant.changes.items():
            fields[name] = (
                {"type": "string", "enum": list(allowed)} if allowed else free_value(expressions[name].span)
            )
        schema = object_schema(
            {
                "changes": object_schema(fields, required=True),
                "caption": {"type": "string", "pattern": sentence_pattern(text)},
            },
            required=True,
        )
        changes = ", ".join(f"{a}: {expressions[a].span or NOT_MENTIONED}" for a in fields)
        messages = self._messages("single", {"caption": text, "label": label, "changes": changes})

        def accept(reply: Any) -> bool:
            values = reply["changes"]
            return all(
                variant.changes[a] or is_other_value(self._vocabulary, a, values[a], expressions, label)
                for a in values
            )

        reply = ask_model(self.llm, "single", messages, schema, seed, accept)
        values = {a: reply["changes"][a] for a in variant.changes}
        alternatives = {a: (value,) for a, value in values.items()}
        if check_sentence(self._vocabulary, text, reply["caption"], expressions, values, label):
            edits = tuple(Edit(a, expressions[a].span, value) for a, value in values.items())
            return Counterfactual(reply["caption"], edits, "llm", alternatives)
        text, edits = rewrite_by_phrases(text, self._vocabulary, expressions, values, label)
        return Counterfactual(text, edits, "phrases", alternatives)

    def _in_order_of_examples(self, attributes: Iterable[str]) -> list[str]:
        """Returns attributes in the order of the prompt's examples, then the others; small models need it."""
        examples = " ".join(
            turn["content"] for turn in self._turns["keywords"] if turn["role"] == "assistant"
        )
        return sorted(
            attributes, key=lambda a: examples.find(f'"{a}"') if f'"{a}"' in examples else len(examples)
        )

    def _messages(self, stage: str, values: Mapping[str, str]) -> list[Message]:
        """Returns the turns of a stage with its question filled in."""
        *turns, question = self._turns[stage]
        return [*turns, Message(role="user", content=question["content"].format(**values))]


def sentence_pattern(text: str, values: Iterable[str] = ()) -> str:
    """Returns the pattern of a sentence of at most twice a text's words, with one of the values.

    That it has all of them, and none of the originals, is checked afterwards: a grammar would cost seconds.
    """
    most = 2 * len(text.split())
    # re.escape would escape spaces too, which llama.cpp's grammars cannot read
    words = "|".join(re.sub(r"([][.^$*+?(){}|\\])", r"\\\1", value) for value in values)
    if not words:
        return rf"^{WORD}( {WORD}){{2,{most}}}$"
    return rf"^({WORD} ){{0,{most}}}({words})[,.]?( {WORD}){{0,{most}}}$"
