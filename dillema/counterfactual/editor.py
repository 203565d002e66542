"""The dialogue with the language model, and the rewriting of captions."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any, ClassVar

from ..errors import ItemError
from ..backend import LanguageModel, Message, Vary
from ..fields import Positive, Weights
from ..types import Caption, Counterfactual, Edit, Expression, Variant
from .prompt import read_prompt

ATTEMPTS = 3  # a grammar makes one enough; servers may ignore theirs
PHRASE = "^[%s][a-z]{1,14}( [a-z]{2,15}){0,2}$"
"""One to three words, for attributes without listed values; another first letter keeps out the original and its forms (red, reddish)."""
STOP = frozenset(
    re.findall(
        r"\w+",
        "a about above ahead along among an and another are as at behind below beside between but by down each few for four from has have he her "
        "his in inside into is it its many near next no of off on one onto or out outside over several she some that the their there these they "
        "this those three through to toward towards two under up was were which while with without",
    )
)


@dataclass
class Editor:
    """Asks a language model what in a caption may change and to what, and rewrites the caption.

    `prompt` is a text file (see `read_prompt`). Spans of up to `max_words` words are offered to the language model.
    `optional` lets it leave out attributes that it finds no span for.
    """

    llm: LanguageModel
    prompt: Weights[str]
    max_words: Positive = 3
    optional: bool = True

    version: ClassVar[int] = 2

    @property
    def batch_size(self) -> int:
        """Returns how many captions it can be asked about at the same time, in threads."""
        return self.llm.batch_size

    def load(self) -> None:
        """Reads the prompt and loads the language model; raises a UserError when either cannot be."""
        self._turns = read_prompt(self.prompt)
        self.llm.load([turns[:-1] for turns in self._turns.values()])

    def keywords(self, caption: Caption, vary: Vary, label: str, seed: int) -> dict[str, Expression]:
        """Returns the span of the caption that expresses each attribute, for those that it expresses.

        No word of the label is part of a span, and none that is listed as a value of another attribute. Where two overlap
        the longer one is dropped, or of equal ones the earlier: the later was chosen with more known. Raises an ItemError
        when nothing is left to choose from or no reply fits.
        """
        spans = _spans(caption.text, label, self.max_words)
        found: dict[str, str] = {}
        if fields := {
            a: {"enum": some}
            for a in self._order(vary)
            if (some := [s for s in spans if not _overlap(s, _others(vary, a))])
        }:
            reply = self._ask(
                "keywords",
                _object(fields, required=not self.optional),
                seed,
                caption=caption.text,
                label=label,
                attributes=", ".join(fields),
            )
            for a, s in sorted(reversed(reply.items()), key=lambda item: len(item[1])):
                if not any(_overlap(s, other) for other in found.values()):
                    found[a] = s
        if not found:
            raise ItemError(f"no words of the caption {caption.text!r} may change")
        values = {a: next((v for v in vary[a] if v.casefold() == found[a].casefold()), "") for a in found}
        return {a: Expression(found[a], values[a]) for a in vary if a in found}

    def rewrite(
        self, caption: Caption, expressions: Mapping[str, Expression], variant: Variant, label: str, seed: int
    ) -> Counterfactual:
        """Returns the caption with one edit for each attribute of the variant."""
        spans = {a: expressions[a].span for a in variant.changes}
        return self._replace(caption, self._alternatives(caption, spans, variant.changes, seed))

    def _alternatives(
        self, caption: Caption, spans: Mapping[str, str], narrowed: Mapping[str, Sequence[str]], seed: int
    ) -> tuple[Edit, ...]:
        """Returns one edit for each narrowed attribute: its span becomes one of its values, or a short phrase where there are none.

        The language model is asked only where there is a choice. Raises an ItemError when no reply fits.
        """
        chosen = {a: values[0] for a, values in narrowed.items() if len(values) == 1}
        if open_ := [a for a in self._order(narrowed) if a not in chosen]:
            free = {a: PHRASE % ascii_lowercase.replace(spans[a][0].lower(), "") for a in open_}
            schema = _object(
                {a: {"enum": list(narrowed[a])} if narrowed[a] else {"pattern": free[a]} for a in open_},
                required=True,
            )
            changes = ", ".join(f"{a}: {spans[a]}" for a in open_)
            chosen |= self._ask("alternatives", schema, seed, caption=caption.text, changes=changes)
        return tuple(Edit(a, spans[a], chosen[a]) for a in narrowed)

    def _replace(self, caption: Caption, edits: Sequence[Edit]) -> Counterfactual:
        """Returns the caption with every edit applied wherever its words stand; an "a" or "an" before them follows."""
        replacements = {e.original.casefold(): e.replacement for e in edits}
        words = "|".join(re.escape(e.original) for e in sorted(edits, key=lambda e: -len(e.original)))

        def replaced(match: re.Match[str]) -> str:
            article, space, word = match[1] or "", match[2] or "", replacements[match[3].casefold()]
            if article:
                article = article[0] + ("n" if word[0].lower() in "aeiou" else "")
            return article + space + (word[0].upper() + word[1:] if match[3][0].isupper() else word)

        return Counterfactual(
            re.sub(rf"(?<!\w)(?:(an?)(\s+))?({words})(?!\w)", replaced, caption.text, flags=re.IGNORECASE),
            tuple(edits),
        )

    def _order(self, attributes: Mapping[str, Any]) -> list[str]:
        """Returns attributes in the order in which the prompt's examples name them, then the others; small models depend on it."""
        examples = " ".join(
            turn["content"] for turn in self._turns["keywords"] if turn["role"] == "assistant"
        )
        return sorted(
            attributes, key=lambda a: examples.find(f'"{a}"') if f'"{a}"' in examples else len(examples)
        )

    def _ask(self, stage: str, schema: dict[str, Any], seed: int, **values: str) -> dict[str, str]:
        *turns, question = self._turns[stage]
        messages = [*turns, Message(role="user", content=question["content"].format(**values))]
        for attempt in range(ATTEMPTS):
            raw = self.llm.ask(messages, schema, seed + attempt)
            try:
                reply = json.loads(
                    raw, strict=False
                )  # llama.cpp's grammar lets control characters into strings
            except json.JSONDecodeError:
                continue
            if _fits(reply, schema):
                return reply
        raise ItemError(f"{stage}: none of {ATTEMPTS} replies fits what was asked for", raw)


def _object(fields: dict[str, Any], *, required: bool) -> dict[str, Any]:
    strings = {a: {"type": "string", **field} for a, field in fields.items()}
    return {
        "type": "object",
        "properties": strings,
        "required": list(fields) if required else [],
        "additionalProperties": False,
    }


def _fits(reply: Any, schema: dict[str, Any]) -> bool:
    """Returns whether a reply fits a schema of `_object`; those who write them do not enforce all of it."""
    fields = schema["properties"]
    return (
        isinstance(reply, dict)
        and set(schema["required"]) <= set(reply) <= set(fields)
        and all(
            isinstance(value, str)
            and (
                value in fields[a]["enum"]
                if "enum" in fields[a]
                else re.fullmatch(fields[a]["pattern"], value)
            )
            for a, value in reply.items()
        )
    )


def _spans(text: str, label: str, most: int) -> list[str]:
    """Returns what a caption can be changed in: runs of words that neither start nor end with a stop word and hold none of the label's."""
    kept = {form for word in re.findall(r"\w+", label.casefold()) for form in (word, word + "s", word + "es")}
    words = list(re.finditer(r"[^\W\d_](?:[\w'-]*\w)?", text))
    spans = []
    for length in range(1, most + 1):
        for run in (words[i : i + length] for i in range(len(words) - length + 1)):
            span, said = text[run[0].start() : run[-1].end()], [w[0].casefold() for w in run]
            if (
                said[0] not in STOP
                and said[-1] not in STOP
                and not kept & set(re.findall(r"\w+", span.casefold()))
                and re.fullmatch(r"[\w' -]+", span)
            ):
                spans.append(span)
    return list(dict.fromkeys(spans))


def _others(vary: Mapping[str, Sequence[str]], attribute: str) -> str:
    """Returns the words that are values of other attributes and not of this one."""
    own = {word for value in vary[attribute] for word in value.casefold().split()}
    return " ".join(
        word
        for a, values in vary.items()
        if a != attribute
        for value in values
        for word in value.casefold().split()
        if word not in own
    )


def _overlap(one: str, other: str) -> bool:
    return bool(set(one.casefold().split()) & set(other.casefold().split()))
