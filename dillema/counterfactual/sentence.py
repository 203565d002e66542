"""Counterfactuals that a language model writes, checked, and else written by rule."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..backend import Vary
from ..errors import ItemError
from ..types import Counterfactual, Edit, Expression, Variant
from .check import check_sentence, fit_value
from .dialogue import ATTEMPTS, Field, ask_model, choice, object_schema
from .phrases import rewrite_by_phrases
from .proposals import NEW, NOT_MENTIONED, Proposer, describe

SENTENCE_WORD = "[A-Za-z'-]{1,18}[,.]?"


def ask_sentence(
    proposer: Proposer,
    text: str,
    expressions: Mapping[str, Expression],
    values: Mapping[str, str],
    label: str,
    seed: int,
) -> str:
    """Returns the language model's sentence with new values for a caption, "" where it does not fit."""
    pattern = sentence_pattern(text, values.values())
    schema = object_schema({"caption": {"type": "string", "pattern": pattern}}, required=True)
    changes = ", ".join(describe(a, expressions[a].span, value) for a, value in values.items())
    messages = proposer.messages("rewrite", {"caption": text, "label": label, "changes": changes})

    def accept(reply: Any) -> bool:
        return check_sentence(proposer.vocabulary, text, reply["caption"], expressions, values, label)

    try:
        reply = ask_model(proposer.llm, "rewrite", messages, schema, seed, accept, attempts=1)
    except ItemError:
        return ""
    return str(reply["caption"])


def ask_everything(
    proposer: Proposer,
    text: str,
    expressions: Mapping[str, Expression],
    variant: Variant,
    offered: Vary,
    label: str,
    seed: int,
) -> Counterfactual:
    """Returns the counterfactual of one request for spans, values and sentence.

    A reply with a value that does not fit is asked for again, the last time with values of the vocabulary
    and without the sentence. A sentence that is missing or does not fit is written by rule.
    """
    spans = {a: expressions[a].span for a in variant.changes if expressions[a].span or a not in offered}
    reply = _ask(proposer, text, spans, variant, offered, label, seed)
    named = {a: _span(reply, spans, a) for a in variant.changes}
    known = {a: span for a, span in spans.items() if span}
    chosen = known | proposer.without_wrong_spans({a: s for a, s in named.items() if s and a not in spans})
    actual = {a: Expression(chosen.get(a, "")) if a in variant.changes else e for a, e in expressions.items()}
    values: dict[str, str] = {}
    for name, allowed in variant.changes.items():
        value = reply[NEW + name]
        fitting = fit_value(proposer.vocabulary, name, value, chosen.get(name, ""), label)
        values[name] = value if allowed else fitting
    alternatives = {a: (value,) for a, value in values.items()}
    sentence = reply.get("caption", "")
    if sentence and check_sentence(proposer.vocabulary, text, sentence, actual, values, label):
        edits = tuple(Edit(a, actual[a].span, value) for a, value in values.items())
        return Counterfactual(sentence, edits, "llm", alternatives)
    sentence, edits = rewrite_by_phrases(text, proposer.vocabulary, actual, values, label)
    return Counterfactual(sentence, edits, "phrases", alternatives)


def _ask(
    proposer: Proposer,
    text: str,
    spans: Mapping[str, str],
    variant: Variant,
    offered: Vary,
    label: str,
    seed: int,
) -> dict[str, str]:
    """Returns a reply whose values fit; raises an ItemError when none of several does."""
    names = proposer.in_order_of_examples("single", variant.changes)
    changes = ", ".join(describe(a, spans.get(a)) for a in names)
    messages = proposer.messages("single", {"caption": text, "label": label, "changes": changes})

    def accept(reply: Any) -> bool:
        return all(
            allowed or fit_value(proposer.vocabulary, a, reply[NEW + a], _span(reply, spans, a), label)
            for a, allowed in variant.changes.items()
        )

    raw = ""
    for attempt in range(ATTEMPTS):
        is_last = attempt == ATTEMPTS - 1
        fields: dict[str, Field] = {}
        for name in names:
            if name not in spans:
                fields[name] = choice([*offered[name], NOT_MENTIONED])
            allowed = variant.changes[name]
            free = proposer.value_field(name, spans.get(name, ""), is_last)
            fields[NEW + name] = choice(allowed) if allowed else free
        if not is_last:
            fields["caption"] = {"type": "string", "pattern": sentence_pattern(text)}
        schema = object_schema(fields, required=True)
        try:
            reply: dict[str, str] = ask_model(
                proposer.llm, "single", messages, schema, seed + attempt, accept, attempts=1
            )
        except ItemError as error:
            raw = error.raw
        else:
            return reply
    raise ItemError(f"single: none of {ATTEMPTS} replies fits what was asked for", raw)


def sentence_pattern(text: str, values: Iterable[str] = ()) -> str:
    """Returns the pattern of a sentence of at most twice a text's words, with one of the values.

    That it has all of them, and none of the originals, is checked afterwards: a grammar would cost seconds.
    """
    most = 2 * len(text.split())
    # re.escape would escape spaces too, which llama.cpp's grammars cannot read
    words = "|".join(re.sub(r"([][.^$*+?(){}|\\])", r"\\\1", value) for value in values)
    if not words:
        return rf"^{SENTENCE_WORD}( {SENTENCE_WORD}){{2,{most}}}$"
    return rf"^({SENTENCE_WORD} ){{0,{most}}}({words})[,.]?( {SENTENCE_WORD}){{0,{most}}}$"


def _span(reply: Mapping[str, str], spans: Mapping[str, str], attribute: str) -> str:
    """Returns the span of an attribute that is known or that a reply names, "" for none."""
    span = spans[attribute] if attribute in spans else reply[attribute]
    return "" if span == NOT_MENTIONED else span
