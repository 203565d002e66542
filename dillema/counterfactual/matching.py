"""Where a caption expresses attributes, by the vocabulary."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .vocabulary import WORD_FORMS, Attribute, Value, Vocabulary, compile_pattern
from .words import (
    APOSTROPHES,
    COPULAS,
    DETERMINERS,
    NEGATIONS,
    PREPOSITIONS,
    QUOTE,
    STOP_WORDS,
    WORD,
    is_content,
    is_english,
    singular,
    word_after,
    word_before,
)

Range = tuple[int, int]
SCENE_NOUNS = frozenset(
    ["scene", "scenes", "setting", "landscape", "environment", "background", "area", "view"]
)
"""Nouns before which a place is a place: "a beach scene" is, "a beach towel" is not."""

TITLE = r"(?:(?:Mr|Mrs|Ms|Dr|Prof)\.?|Miss|Sir|Lady|Professor)"
NAME = re.compile(rf"\b(?:named|called|{TITLE}) [A-Z]\w*")
"""A name, which may be one word that is otherwise none: "a man named Rainey", "Mr. White"."""


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

    Of overlapping expressions the longest counts, whether or not it is one of the attributes asked for: "blue
    sky" is a weather and no colour. Quoted text, proper names and `protected` ranges are passed over. Text in
    another language than English has no expressions.
    """
    if not is_english(text):
        return []
    names = {attribute.name: name for name in attributes if (attribute := vocabulary.find(name))}
    blocked = [*protected, *fixed_ranges(text)]
    ranks = {name: rank for rank, name in enumerate(names)}
    candidates = [
        candidate
        for attribute in vocabulary.attributes
        for candidate in _candidates(text, attribute)
        if not overlaps(candidate[0], blocked)
        and (attribute.name in names or candidate[3] not in ("phrase", "clause"))
    ]
    candidates.sort(
        key=lambda c: (c[0][0] - c[0][1], ranks.get(c[1].name, len(ranks)), c[0][0], c[3] in WORD_FORMS)
    )
    taken: list[Range] = []
    matches = []
    for span, attribute, value, form in candidates:
        if overlaps(span, taken):
            continue
        actual_form = _actual_form(text, span, attribute, value, form) if value else form
        if actual_form is None:
            continue
        taken.append(span)
        if value and attribute.name in names:
            negated = _negator(text, span[0], actual_form) is not None
            matches.append(Match(names[attribute.name], value, actual_form, *span, negated))
    return sorted(matches, key=lambda match: match.start)


def fixed_ranges(text: str) -> list[Range]:
    """Returns the ranges of quoted text and proper names."""
    return [*(match.span() for match in QUOTE.finditer(text)), *_proper_names(text)]


def best_match(
    matches: Sequence[Match], attribute: Attribute, text: str, label: Sequence[Range]
) -> Match | None:
    """Returns the expression that an edit replaces: the first, of a suitable object where there is any."""
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


def is_negated(text: str, position: int) -> bool:
    """Returns whether a text says that the noun at a position is not there: "without any cars"."""
    return _negator(text, position, "noun") is not None


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


def _actual_form(text: str, span: Range, attribute: Attribute, value: Value, form: str) -> str | None:
    """Returns the form of an expression by where it stands; None where it does not express the value."""
    after = word_after(text, span[1])
    if form in WORD_FORMS:
        return _word_form(text, span, attribute, value, after)
    is_whole = attribute.prepositions or re.search(r"\b(the|an?)\b", text[slice(*span)])
    is_compound = bool(is_whole) and is_content(after)  # "in downtown Chicago"
    return None if form == "phrase" and is_compound and text[: span[0]].strip() else form


def _word_form(text: str, span: Range, attribute: Attribute, value: Value, after: str) -> str | None:
    """Returns the form of single words, which depends on the words around them."""
    if attribute.prepositions and after == "of":
        return None  # "a corridor of a station", "a field of daisies"
    forms = {f for f in WORD_FORMS if any(_matches_at(p, text, span) for p in value.forms.get(f, ()))}
    if is_content(after):
        is_part_of_name = attribute.prepositions and after not in SCENE_NOUNS  # "office desk" is no place
        return "modifier" if "modifier" in forms and not is_part_of_name else None
    before = word_before(text, span[0])
    if forms == {"modifier"}:
        is_coordinated = bool(
            re.match(r"(,| and| or)\s+\w", text[span[1] :])
        ) and before not in PREPOSITIONS - {"of", "with"}
        stands_alone = before in COPULAS or before in (
            "in",
            "and",
            "or",
            "painted",
            "wore",
            "wears",
            "wearing",
            "all",
            "them",
            "coloured",
            "colored",
        )
        has_participle = bool(re.fullmatch(r"\w+(ing|ed)", after))
        if is_coordinated or stands_alone or has_participle or not before:
            return "modifier"
        return None if attribute.nouns else "bare"
    if "noun" in forms and ("bare" not in forms or _has_determiner(text, span[0])):
        return "noun"
    return "bare" if "bare" in forms else "noun"


def _matches_at(pattern: str, text: str, span: Range) -> bool:
    """Returns whether a pattern matches exactly a range of a text."""
    match = compile_pattern(pattern).match(text, span[0])
    return match is not None and match.end() == span[1]


def _has_determiner(text: str, position: int) -> bool:
    """Returns whether a determiner stands before a noun, with nothing but adjectives between."""
    for _ in range(4):
        word = word_before(text, position)
        if word in DETERMINERS:
            return True
        if not word or (word in STOP_WORDS and word != "and"):
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
    """Yields runs of capitalised words that do not begin a sentence: "Red Bull", "Rainy Day Cafe"."""
    yield from (match.span() for match in NAME.finditer(text))
    if text.isupper() or sum(word[0].isupper() for word in WORD.findall(text)) >= 0.8 * len(
        WORD.findall(text)
    ):
        return  # a title
    for match in re.finditer(rf"\b[A-Z][\w{APOSTROPHES}]*(?:\s+[A-Z][\w{APOSTROPHES}]*)+", text):
        begins_sentence = not text[: match.start()].strip() or bool(
            re.search(r"[.!?]\s*$", text[: match.start()])
        )
        start = match.start() + (match[0].index(" ") + 1 if begins_sentence and " " in match[0] else 0)
        is_name = match[0].split()[0].casefold() not in STOP_WORDS and start > match.start()  # "Snow White"
        is_explained = re.match(r",\s+(an?|the)\s", text[match.end() :])  # "Blue Note, a jazz club"
        if not begins_sentence or is_name or is_explained or " " in text[start : match.end()]:
            yield match.start() if is_explained else start, match.end()
