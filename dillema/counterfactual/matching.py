"""Where a caption expresses attributes, by the vocabulary."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .vocabulary import WORD_FORMS, Attribute, Value, Vocabulary, compile_pattern
from .words import (
    COPULAS,
    DETERMINERS,
    NEGATIONS,
    PREPOSITIONS,
    QUOTE,
    STOP_WORDS,
    WORD,
    is_content,
    singular,
    word_after,
    word_before,
)

Range = tuple[int, int]


@dataclass(frozen=True)
class Match:
    """An expression of an attribute.

    Attributes:
        attribute: The attribute, as `vary` names it.
        value: The value of the vocabulary.
        form: The form of the value; forms that are single words are told apart by the words around them.
        negated: Whether the caption says that it is not so.
    """

    attribute: str
    value: Value
    form: str
    start: int
    end: int
    negated: bool = False

    @property
    def range(self) -> Range:
        """Returns where the expression stands."""
        return self.start, self.end


def find_matches(
    text: str, vocabulary: Vocabulary, attributes: Iterable[str], protected: Sequence[Range]
) -> list[Match]:
    """Returns the expressions of the attributes in the order of the text, of which no two overlap.

    Of overlapping expressions the longest counts, whether or not it is one of the attributes asked for: "blue sky" is a
    weather and no colour. Quoted text, proper names and `protected` ranges are passed over.
    """
    names = {attribute.name: name for name in attributes if (attribute := vocabulary.find(name))}
    blocked = [*protected, *(match.span() for match in QUOTE.finditer(text)), *_proper_names(text)]
    ranks = {name: rank for rank, name in enumerate(names)}
    candidates = [
        c for a in vocabulary.attributes for c in _candidates(text, a) if not overlaps(c[0], blocked)
    ]
    candidates.sort(
        key=lambda c: (c[0][0] - c[0][1], ranks.get(c[1].name, len(ranks)), c[0][0], c[3] in WORD_FORMS)
    )
    taken: list[Range] = []
    matches = []
    for span, attribute, value, form in candidates:
        if overlaps(span, taken):
            continue
        actual_form = _word_form(text, span, value) if form in WORD_FORMS and value else form
        if actual_form is None:
            continue
        taken.append(span)
        if value and attribute.name in names:
            negated = _negator(text, span[0], actual_form) is not None
            matches.append(Match(names[attribute.name], value, actual_form, *span, negated))
    return sorted(matches, key=lambda match: match.start)


def best_match(
    matches: Sequence[Match], attribute: Attribute, text: str, label: Sequence[Range]
) -> Match | None:
    """Returns the expression of an attribute that an edit replaces: the first, of an object that it suits where there is any."""
    own = [m for m in matches if not m.negated]
    if not attribute.nouns:
        return next(iter(own), None)
    return min(own, key=lambda m: (_noun_rank(text, m.end, attribute, label), m.start), default=None)


def negated_range(text: str, match: Match) -> Range:
    """Returns the range of a negated expression with its negation: ", without any snow"."""
    start = _negator(text, match.start, match.form)
    begin = match.start if start is None else start
    before = re.search(r"(,?\s+(with|and|but|it is|there is)|,)?\s*$", text[:begin])
    return (before.start() if before else begin), match.end


def overlaps(span: Range, others: Iterable[Range]) -> bool:
    """Returns whether a range shares a character with others."""
    return any(span[0] < end and start < span[1] for start, end in others)


def _candidates(text: str, attribute: Attribute) -> Iterator[tuple[Range, Attribute, Value | None, str]]:
    for pattern in attribute.ignore:
        for match in compile_pattern(pattern).finditer(text):
            yield match.span(), attribute, None, ""
    for value in attribute.values:
        for form, patterns in value.forms.items():
            for pattern in patterns:
                for match in compile_pattern(pattern).finditer(text):
                    yield match.span(), attribute, value, form


def _word_form(text: str, span: Range, value: Value) -> str | None:
    """Returns the form that a word has by where it stands; None where it does not express the value."""
    words = text[slice(*span)]
    forms = {
        f for f in WORD_FORMS if any(compile_pattern(p).fullmatch(words) for p in value.forms.get(f, ()))
    }
    after = word_after(text, span[1])
    if "modifier" in forms and is_content(after):
        return "modifier"
    if forms == {"modifier"}:
        before = word_before(text, span[0])
        is_coordinated = bool(re.match(r"(,| and| or)\s+\w", text[span[1] :])) and before not in PREPOSITIONS
        stands_alone = before in COPULAS or before in (
            "in",
            "and",
            "or",
            "painted",
            "all",
            "coloured",
            "colored",
        )
        has_participle = bool(re.fullmatch(r"\w+(ing|ed)", after))
        return "modifier" if is_coordinated or stands_alone or has_participle or not before else "bare"
    if "noun" in forms and ("bare" not in forms or _has_determiner(text, span[0])):
        return "noun"
    return "bare" if "bare" in forms else "noun" if "noun" in forms else "modifier"


def _has_determiner(text: str, position: int) -> bool:
    """Returns whether a determiner stands before a noun, with nothing but adjectives between."""
    for _ in range(4):
        word = word_before(text, position)
        if word in DETERMINERS:
            return True
        if not word or word in STOP_WORDS:
            return False
        position = text.casefold().rindex(word, 0, position)
    return False


def _negator(text: str, position: int, form: str) -> int | None:
    """Returns where the negation of an expression begins, None where there is none."""
    most_between = {"phrase": 0, "clause": 0}.get(form, 2)
    for between in range(most_between + 1):
        word = word_before(text, position)
        if not word:
            return None
        position = text.casefold().rindex(word, 0, position)
        if word in NEGATIONS:
            return position
        is_adverb = word in (
            "any",
            "a",
            "an",
            "the",
            "very",
            "much",
            "sign",
            "signs",
            "of",
            "really",
            "particularly",
        )
        if not is_adverb and (between or word in PREPOSITIONS):
            return None
    return None


def _noun_rank(text: str, position: int, attribute: Attribute, label: Sequence[Range]) -> int:
    """Returns how well the noun after a position suits an attribute; smaller is better."""
    for match in list(WORD.finditer(text, position))[:3]:
        if re.search(r"[,.;:]", text[position : match.start()]) or match[0].casefold() in PREPOSITIONS:
            break
        noun = singular(match[0].casefold())
        for rank, group in enumerate(attribute.nouns):
            if noun in group:
                return 2 * rank
        if overlaps(match.span(), label):
            return 1
    return 2 * len(attribute.nouns)


def _proper_names(text: str) -> Iterator[Range]:
    """Yields runs of two or more capitalised words that do not begin a sentence: "Red Bull", "Rainy Day Cafe"."""
    if sum(word[0].isupper() for word in WORD.findall(text)) > len(WORD.findall(text)) / 2:
        return  # a title
    for match in re.finditer(r"\b[A-Z][\w'’]*(?:\s+[A-Z][\w'’]*)+", text):
        begins_sentence = not text[: match.start()].strip() or bool(
            re.search(r"[.!?]\s*$", text[: match.start()])
        )
        start = match.start() + (match[0].index(" ") + 1 if begins_sentence and " " in match[0] else 0)
        if not begins_sentence or " " in text[start : match.end()]:
            yield start, match.end()
