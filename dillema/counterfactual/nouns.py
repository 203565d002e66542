"""Beside which nouns of a caption an adjective or a phrase is inserted."""

import re
from collections.abc import Iterable, Sequence

from .draft import Draft, end_of_sentence
from .matching import TITLE, Match, is_negated, overlaps
from .vocabulary import Attribute
from .words import (
    ADJECTIVES,
    APOSTROPHES,
    ARTICLES,
    COPULAS,
    DETERMINERS,
    OWNER,
    STOP_WORDS,
    WORD,
    is_content,
    is_plural,
    singular,
    word_after,
    word_before,
)

NO_HEADS = DETERMINERS - {"that"} | {"of"}
"""Words before which no noun phrase ends; "that" may begin a clause: "a cat that sleeps"."""
PERSON = re.compile(rf"\b{TITLE} [A-Z]\w*(?![\w{APOSTROPHES}])")
"""A person with a title: "Mrs. Brown"."""


def end_of_person(draft: Draft, matches: Sequence[Match], nouns: frozenset[str]) -> int | None:
    """Returns the end of the first person, or of the first list of some, by nouns for people.

    None where it is the end of the sentence, too. What expresses an attribute is no person.
    """
    taken = [*draft.label, *draft.changes, *(m.range for m in matches)]
    text, last = draft.text, end_of_sentence(draft.text)
    if (person := PERSON.search(text)) and text[person.end() :].strip(" .!?"):
        return _end_of_list(text, person.end(), nouns)
    for match in WORD.finditer(text):
        word, after = match[0].casefold(), word_after(text, match.end())
        # what follows "people", or "man" and ends with "s", is a verb
        is_head = not is_content(after) or is_plural(word) or after.endswith("s")
        if not is_head or singular(word) not in nouns or after in NO_HEADS:
            continue
        before = word_before(text, match.start())
        is_noun = before not in COPULAS and _heads_noun_phrase(text, match.start())
        if is_noun and not overlaps(match.span(), taken):
            end = _end_of_list(text, match.end(), nouns)
            return end if end != last and text[end:].strip(" .!?") else None
    return None


def _end_of_list(text: str, end: int, nouns: frozenset[str]) -> int:
    """Returns where a list of nouns ends whose first one ends at a position: "a man and a woman"."""
    following = re.compile(
        rf"(,|\s+and|,\s+and)\s+((an?|the|two|three|several|his|her|their|its)\s+)?({WORD.pattern})"
    )
    while (match := following.match(text, end)) and singular(match[4].casefold()) in nouns:
        end = match.end()
    return end


def noun_position(draft: Draft, attribute: Attribute, groups: Iterable[frozenset[str]]) -> int | None:
    """Returns where an adjective is inserted: before the first noun of the first group that has one."""
    words = list(WORD.finditer(draft.text))
    for group in groups:
        for i, match in enumerate(words):
            is_noun = singular(match[0].casefold()) in group
            if (
                not is_noun
                or (is_content(word_after(draft.text, match.end())) and not is_plural(match[0].casefold()))
                or overlaps(match.span(), draft.changes)
            ):
                continue
            if not _heads_noun_phrase(draft.text, match.start()):
                continue
            head = i
            while i and _is_joined(draft, attribute, words[max(i - 2, 0) : i], words[i]):
                i -= 1
            if any(value.is_called(w[0]) for w in words[max(i - 1, 0) : head] for value in attribute.values):
                continue  # it has a colour that is part of the label
            if i and OWNER.search(words[i - 1][0]) and overlaps(words[i - 1].span(), draft.label):
                continue  # "Mr. White's shop" is a name
            if not any(start < words[i].start() < end for start, end in draft.changes):
                return words[i].start()
    return None


def _is_joined(
    draft: Draft, attribute: Attribute, before: Sequence[re.Match[str]], following: re.Match[str]
) -> bool:
    """Returns whether the last of the words before another one is not parted from it: "a parking meter"."""
    word, text = before[-1], before[-1][0].casefold()
    is_stop_word = text in STOP_WORDS or OWNER.search(text)
    if draft.text[word.end() : following.start()] != " " or is_stop_word:
        return False
    if overlaps(word.span(), draft.label) or text in attribute.others | attribute.joined:
        return True
    # after a plural it may be a verb: "men push carts"
    is_word = is_content(text) and re.fullmatch("[a-z-]+", text) is not None
    is_noun = is_word and text not in ADJECTIVES and not is_plural(text)
    return is_noun and len(before) > 1 and not is_plural(before[0][0].casefold())


def _heads_noun_phrase(text: str, position: int) -> bool:
    """Returns whether a word can be a noun where it stands: not "to table", "no car" or "a man rings"."""
    before = word_before(text, position)
    if is_plural(WORD.findall(text[position:])[0].casefold()):
        start, word = position, before
        while is_content(word):
            start = text.casefold().rindex(word, 0, start)
            word = word_before(text, start)
        if word in ARTICLES:
            return False
    is_name = bool(before) and re.match("[A-Z]\\w", text[position:]) is not None
    is_there = before not in ("to", "no", "without", "not", "by") and not is_negated(text, position)
    return is_there and not is_name
