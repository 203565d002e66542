"""The words of a caption that a language model may choose from."""

import re
from collections.abc import Sequence

from ..backend import Vary
from .matching import Range, overlaps
from .words import DETERMINERS, STOP_WORDS, is_content, word_after

CANDIDATE_WORD = re.compile(r"[^\W\d_](?:[\w'-]*\w)?")
PLACE_PREPOSITIONS = frozenset(
    ["across", "along", "around", "at", "by", "down", "in", "inside", "near", "on", "over", "through", "up"]
)


def candidate_spans(text: str, taken: Sequence[Range], max_words: int) -> list[str]:
    """Returns runs of words that neither begin nor end with a function word, outside of the ranges taken."""
    words = list(CANDIDATE_WORD.finditer(text))
    spans = []
    for length in range(1, max_words + 1):
        for run in (words[i : i + length] for i in range(len(words) - length + 1)):
            start, end = run[0].start(), run[-1].end()
            ends = {run[0][0].casefold(), run[-1][0].casefold()}
            is_plain = re.fullmatch(r"[\w' -]+", text[start:end])
            if is_plain and not ends & STOP_WORDS and not overlaps((start, end), taken):
                spans.append(text[start:end])
    return list(dict.fromkeys(spans))


def is_place(text: str, span: str) -> bool:
    """Returns whether a span of a text is where something is: "beach" in "on the beach at noon"."""
    for match in re.finditer(rf"(?<!\w){re.escape(span)}(?!\w)", text):
        after = word_after(text, match.end())
        words = [word.casefold() for word in re.findall(r"[\w'-]+", text[: match.start()])[-4:]]
        while words and is_content(words[-1]):
            words.pop()
        if words and words[-1] in DETERMINERS:
            words.pop()
        if words and words[-1] in PLACE_PREPOSITIONS and after != "of" and not is_content(after):
            return True
    return False


def share_words(first: str, second: str) -> bool:
    """Returns whether two spans have a word in common."""
    return bool(set(first.casefold().split()) & set(second.casefold().split()))


def other_values(vary: Vary, attribute: str) -> str:
    """Returns the words that are listed values of other attributes and not of this one."""
    own = {word for value in vary[attribute] for word in value.casefold().split()}
    others = (
        word for a, listed in vary.items() if a != attribute for v in listed for word in v.casefold().split()
    )
    return " ".join(word for word in others if word not in own)
