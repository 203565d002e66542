"""Words of a caption: where they stand, their articles and their number."""

import re
from functools import cache
from typing import Any

WORD = re.compile(r"[^\W_](?:[\w'’-]*\w)?")
QUOTE = re.compile(r"\"[^\"]*\"|“[^”]*”|«[^»]*»|(?<!\w)['‘][^'’]*['’](?!\w)")
ARTICLES = frozenset(("a", "an"))
PREPOSITIONS = frozenset(
    [
        "about",
        "above",
        "across",
        "after",
        "against",
        "along",
        "amid",
        "among",
        "around",
        "as",
        "at",
        "before",
        "behind",
        "below",
        "beneath",
        "beside",
        "between",
        "by",
        "down",
        "during",
        "for",
        "from",
        "in",
        "inside",
        "into",
        "like",
        "near",
        "of",
        "off",
        "on",
        "onto",
        "out",
        "outside",
        "over",
        "past",
        "through",
        "to",
        "toward",
        "towards",
        "under",
        "until",
        "up",
        "upon",
        "with",
        "within",
        "without",
    ]
)
DETERMINERS = frozenset(
    [
        "a",
        "an",
        "the",
        "this",
        "that",
        "these",
        "those",
        "his",
        "her",
        "its",
        "their",
        "our",
        "my",
        "your",
        "some",
        "any",
        "each",
        "every",
        "one",
        "two",
        "three",
        "four",
        "five",
        "several",
        "many",
        "few",
        "no",
        "both",
        "all",
        "another",
    ]
)
COPULAS = frozenset(
    [
        "is",
        "are",
        "was",
        "were",
        "be",
        "being",
        "looks",
        "appears",
        "seems",
        "very",
        "quite",
        "isn't",
        "aren't",
        "wasn't",
    ]
)
STOP_WORDS = (
    PREPOSITIONS
    | DETERMINERS
    | COPULAS
    | frozenset(
        [
            "ahead",
            "along",
            "and",
            "as",
            "but",
            "has",
            "have",
            "he",
            "if",
            "in",
            "it",
            "next",
            "not",
            "or",
            "she",
            "so",
            "than",
            "that",
            "then",
            "there",
            "they",
            "when",
            "where",
            "which",
            "while",
            "who",
            "whose",
        ]
    )
)
NEGATIONS = frozenset(
    [
        "no",
        "not",
        "without",
        "never",
        "isn't",
        "aren't",
        "wasn't",
        "doesn't",
        "hardly",
        "lacks",
        "lacking",
        "non",
    ]
)


@cache
def _inflector() -> Any:
    import inflect  # takes a second

    return inflect.engine()


def with_article(words: str) -> str:
    """Returns "a" or "an", whichever stands before the words."""
    return str(_inflector().a(words).split()[0])


def plural(noun: str) -> str:
    """Returns the plural of a noun, or of the last noun of several words."""
    return str(_inflector().plural_noun(noun))


@cache
def singular(noun: str) -> str:
    """Returns the singular of a plural noun, and any other word as it is."""
    if re.fullmatch(r".*(ss|us|is)", noun):  # "bus" and "glass" are singular
        return noun
    return str(_inflector().singular_noun(noun) or noun)


@cache
def is_plural(noun: str) -> bool:
    """Returns whether a noun is a plural that differs from its singular."""
    return singular(noun) != noun


def word_before(text: str, position: int) -> str:
    """Returns the word before a position, in lower case; "" where something else stands there."""
    match = re.search(r"([^\W_](?:[\w'’-]*\w)?)[ \t\n-]*$", text[:position])
    return match[1].casefold() if match else ""


def word_after(text: str, position: int) -> str:
    """Returns the word after a position, in lower case; "" where something else stands there."""
    match = re.match(r"[ \t\n]+([^\W_](?:[\w'’-]*\w)?)", text[position:])
    return match[1].casefold() if match else ""


def is_content(word: str) -> bool:
    """Returns whether a word may be the noun or the adjective that goes on a noun phrase."""
    is_verb = bool(re.fullmatch(r"\w{2,}ing|\w+(?<!e)ed|falls|shines|rises|sets", word)) and word not in (
        "building", "buildings", "clothing", "evening", "morning", "parking", "crossing", "ceiling", "railing", "painting",
        "parked", "crowded", "paved", "bed", "shed", "wedding", "fishing", "building's", "covered", "winding", "lighting",
    )  # fmt: skip
    return bool(word) and word not in STOP_WORDS and not is_verb
