"""Which words of a caption express an attribute, and what could stand instead, by a language model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..backend import LanguageModel, Message, Vary
from ..errors import ItemError
from .check import fit_value
from .dialogue import ATTEMPTS, Field, ask_model, choice, free_value, object_schema, several
from .labels import label_positions
from .matching import Match
from .meaning import Meaning
from .spans import candidate_spans, is_place, other_values, share_words
from .vocabulary import Vocabulary

ALTERNATIVES = 3  # for an attribute, of which a variant takes one
NOT_MENTIONED = "not mentioned"  # stands for the span of an attribute that the caption does not express
UNKNOWN = "?"  # stands for a span that is asked for
NEW = "new "  # before the name of an attribute: the field of its values


@dataclass
class Proposals:
    """What is known of the attributes of a caption.

    Attributes:
        spans: The words that express an attribute; "" where the caption does not express it.
        values: What could stand instead of them.
    """

    spans: dict[str, str] = field(default_factory=dict)
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Proposer:
    """Asks a language model about the attributes of one caption.

    Attributes:
        turns: The turns of each stage of the prompt.
        max_words: The longest span that is offered.
        optional: Whether the language model may leave out attributes in the stage `keywords`.
        meaning: What checks the spans that the language model chooses.
    """

    llm: LanguageModel
    turns: Mapping[str, list[Message]]
    vocabulary: Vocabulary
    max_words: int
    optional: bool
    meaning: Meaning | None = None

    def ask_spans(
        self, text: str, label: str, offered: Mapping[str, Sequence[str]], seed: int
    ) -> dict[str, str]:
        """Returns which of the spans offered the language model takes, of which no two overlap."""
        if not offered:
            return {}
        fields = {a: choice(offered[a]) for a in self.in_order_of_examples("keywords", offered)}
        question = {"caption": text, "label": label, "attributes": ", ".join(fields)}
        schema = object_schema(fields, required=not self.optional)
        reply = ask_model(self.llm, "keywords", self.messages("keywords", question), schema, seed)
        return self.without_wrong_spans(reply)

    def ask_all(
        self,
        text: str,
        label: str,
        spans: Mapping[str, str],
        offered: Mapping[str, Sequence[str]],
        free: Sequence[str],
        seed: int,
    ) -> Proposals:
        """Returns spans and alternatives from one reply.

        Alternatives that do not fit are left out. For attributes that are left without any, the language
        model is asked again, the last time for values of the vocabulary. Attributes for which no reply has
        an alternative are left out; raises an ItemError when none has any.

        Args:
            text: The caption.
            label: The name of the sample's class.
            spans: The spans that are known, "" for attributes that the caption does not express.
            offered: For each of the other attributes the spans among which the language model chooses.
            free: The attributes for which alternatives are asked for.
            seed: A seed.
        """
        result = Proposals(dict(spans))
        missing = [*free]
        error: ItemError | None = None
        for attempt in range(ATTEMPTS):
            unknown = {a: choices for a, choices in offered.items() if a not in result.spans}
            names = self.in_order_of_examples("proposals", {*missing, *unknown})
            fields: dict[str, Field] = {}
            for name in names:
                if name in unknown:
                    fields[name] = choice([*unknown[name], NOT_MENTIONED])
                if name in missing:
                    is_last = attempt == ATTEMPTS - 1
                    span = result.spans.get(name, "")
                    fields[NEW + name] = several(self.value_field(name, span, is_last), ALTERNATIVES)
            changes = ", ".join(describe(a, result.spans.get(a)) for a in names)
            messages = self.messages("proposals", {"caption": text, "label": label, "changes": changes})
            schema = object_schema(fields, required=True)
            try:
                reply = ask_model(self.llm, "proposals", messages, schema, seed + attempt, attempts=1)
            except ItemError as failure:
                error = failure
                continue
            self._read(reply, result, unknown, missing, label)
            missing = [a for a in missing if a not in result.values]
            if not missing:
                return result
        if error and not result.values:
            raise ItemError(f"proposals: none of {ATTEMPTS} replies fits what was asked for", error.raw)
        return result

    def offered_spans(
        self, text: str, label: str, attributes: Iterable[str], vary: Vary, matches: Sequence[Match]
    ) -> dict[str, list[str]]:
        """Returns the spans that can express each attribute, for attributes that have any.

        No word of the label is offered, nor one that expresses another attribute. Only the noun of a
        prepositional phrase can be a place.
        """
        offered = {}
        for attribute in attributes:
            ranges_of_others = [m.range for m in matches if m.attribute != attribute]
            spans = candidate_spans(text, [*label_positions(text, label), *ranges_of_others], self.max_words)
            foreign = other_values(vary, attribute)
            if self.vocabulary.get(attribute).prepositions:
                spans = [s for s in spans if is_place(text, s)]
            can_be = [s for s in spans if not share_words(s, foreign) and self._can_express(attribute, s)]
            if can_be:
                offered[attribute] = can_be
        return offered

    def value_field(self, attribute: str, span: str, is_last: bool) -> Field:
        """Returns the schema of a free value; in the last attempt it is one of the vocabulary, if any."""
        known = [v.name for v in self.vocabulary.get(attribute).values if not v.is_expressed_by(span)]
        return choice(known) if is_last and known else free_value(span)

    def in_order_of_examples(self, stage: str, attributes: Iterable[str]) -> list[str]:
        """Returns attributes in the order of the prompt's examples, then the others; small models need it."""
        examples = " ".join(turn["content"] for turn in self.turns[stage] if turn["role"] == "assistant")

        def position(attribute: str) -> int:
            places = (examples.find(f'"{start}{attribute}"') for start in ("", NEW))
            return min((place for place in places if place >= 0), default=len(examples))

        return sorted(sorted(attributes), key=position)

    def messages(self, stage: str, values: Mapping[str, str]) -> list[Message]:
        """Returns the turns of a stage with its question filled in."""
        *turns, question = self.turns[stage]
        return [*turns, Message(role="user", content=question["content"].format(**values))]

    def _read(
        self,
        reply: Mapping[str, str | list[str]],
        result: Proposals,
        unknown: Mapping[str, Sequence[str]],
        missing: Sequence[str],
        label: str,
    ) -> None:
        """Adds what a reply says to the result."""
        named = {a: str(reply[a]) for a in unknown}
        chosen = self.without_wrong_spans({a: s for a, s in named.items() if s != NOT_MENTIONED})
        result.spans |= {a: chosen.get(a, "") for a in unknown}
        for attribute in missing:
            span = result.spans.get(attribute, "")
            proposed = reply[NEW + attribute]
            values = (fit_value(self.vocabulary, attribute, value, span, label) for value in proposed)
            if fitting := tuple(dict.fromkeys(value for value in values if value)):
                result.values[attribute] = fitting

    def without_wrong_spans(self, spans: Mapping[str, str]) -> dict[str, str]:
        """Returns spans of which no two share a word, and that express their attributes by their meaning.

        Of two that share a word the longer one is dropped, or of equal ones the earlier: the later was
        chosen with more known.
        """
        chosen: dict[str, str] = {}
        for attribute, span in sorted(reversed(list(spans.items())), key=lambda item: len(item[1])):
            is_right = self.meaning is None or self.meaning.expresses(span, attribute)
            if is_right and not any(share_words(span, other) for other in chosen.values()):
                chosen[attribute] = span
        return chosen

    def _can_express(self, attribute: str, span: str) -> bool:
        """Returns whether no word of a span is known as a value of other attributes only."""
        own = self.vocabulary.get(attribute).name
        meanings = [set(self.vocabulary.find_attributes(word)) for word in {span, *span.split()}]
        return all(not names or own in names for names in meanings)


def describe(attribute: str, span: str | None, value: str = "") -> str:
    """Returns an attribute with its span and its new value, as questions name it; None: asked for."""
    words = UNKNOWN if span is None else span or NOT_MENTIONED
    return f"{attribute}: {words} -> {value}" if value else f"{attribute}: {words}"
