"""Words of a caption: where they stand, their articles and their number."""

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

APOSTROPHES = "'\u2019"
WORD = re.compile(rf"[^\W_](?:[\w{APOSTROPHES}-]*\w)?")
QUOTE = re.compile(r"\"[^\"]*\"|\u201c[^\u201d]*\u201d|«[^»]*»|(?<!\w)['\u2018][^'\u2019]*['\u2019](?!\w)")
OWNER = re.compile(rf"[{APOSTROPHES}]s?$")
"""The end of a word that owns the next one: "a woman's" hat."""
POSSESSIVES = frozenset(("his", "her", "its", "their", "my", "our", "your"))
WORDS = Path(__file__).with_name("words.yaml")
_LISTS: Any = yaml.load(WORDS.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
ARTICLES = frozenset(("a", "an"))
PREPOSITIONS = frozenset(_LISTS["prepositions"])
DETERMINERS = frozenset(_LISTS["determiners"])
COPULAS = frozenset(_LISTS["copulas"])
NEGATIONS = frozenset(_LISTS["negations"])
STOP_WORDS = PREPOSITIONS | DETERMINERS | COPULAS | frozenset(_LISTS["function_words"])
ADJECTIVES = frozenset(_LISTS["adjectives"])
TERRAIN = frozenset(_LISTS["terrain"])
VERBS = frozenset(_LISTS["verbs"])
FOREIGN_WORDS = frozenset(_LISTS["foreign_words"])
NO_PARTICIPLES = frozenset(_LISTS["no_participles"])


@cache
def _inflector(classical: bool = False) -> Any:
    import inflect  # takes a second

    inflector = inflect.engine()
    inflector.classical(all=classical)
    return inflector


def with_article(words: str) -> str:
    """Returns "a" or "an", whichever stands before the words."""
    return str(_inflector().a(words).split()[0])


def plural(noun: str) -> str:
    """Returns the plural of a noun, or of the last noun of several words."""
    return str(_inflector().plural_noun(noun))


@cache
def rare_plurals(noun: str) -> frozenset[str]:
    """Returns the other plurals of a singular noun that captions hold: cacti, fishes."""
    regular = f"{noun}es" if re.search(r"(x|z|ch|sh)$", noun) else f"{noun}s"
    others = [regular] if plural(noun) == noun else []
    return frozenset((str(_inflector(classical=True).plural_noun(noun)), *others))


@cache
def singular(noun: str) -> str:
    """Returns the singular of a plural noun, and any other word as it is."""
    if re.fullmatch(r".*(ss|us|is|a)|gas", noun):  # "bus", "glass" and "opera" are singular
        return noun
    return str(_inflector().singular_noun(noun) or noun)


@cache
def is_plural(noun: str) -> bool:
    """Returns whether a noun is a plural that differs from its singular."""
    return singular(noun) != noun


def word_before(text: str, position: int) -> str:
    """Returns the word before a position, in lower case; "" where something else stands there."""
    match = re.search(rf"({WORD.pattern})[ \t\n-]*$", text[:position])
    return match[1].casefold() if match else ""


def word_after(text: str, position: int) -> str:
    """Returns the word after a position, in lower case; "" where something else stands there."""
    match = re.match(rf"[ \t\n]+({WORD.pattern})", text[position:])
    return match[1].casefold() if match else ""


def is_content(word: str) -> bool:
    """Returns whether a word may be the noun or the adjective that goes on a noun phrase."""
    is_participle = bool(re.fullmatch(r"[\w-]{2,}ing|[\w-]+(?<!e)ed", word)) and word not in NO_PARTICIPLES
    return bool(word) and word not in STOP_WORDS and word not in VERBS and not is_participle


@lru_cache(maxsize=1000)  # a caption is asked about several times, but a run has millions of them
def is_english(text: str) -> bool:
    """Returns whether a text has no more function words of other languages than of English."""
    words = [word.casefold() for word in WORD.findall(text)]
    others = [word for word in words if word in FOREIGN_WORDS or not re.match("[a-z0-9]", word)]
    return len(others) <= sum(word in STOP_WORDS for word in words)
