"""The words that name a label, which an edit never touches."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ..decoding import read_text_file
from ..errors import UserError
from .vocabulary import read_yaml
from .words import APOSTROPHES, WORD, plural, rare_plurals, singular

KINDS_FILE = Path(__file__).parent / "kinds.yaml"


@cache
def read_synonyms(file: str | Path) -> Mapping[str, frozenset[str]]:
    """Returns the synonyms of each name in a file, in lower case.

    A line holds the names of one thing, separated by commas, after an id and a tab if there is one, as in
    timm's list of the nouns of WordNet (Miller 1995) that ImageNet has. Raises a UserError for a file that
    cannot be read.
    """
    try:
        lines = read_text_file(Path(file)).splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"prompt.synonyms: {Path(file).absolute()} cannot be read: {error}") from error
    synonyms: dict[str, frozenset[str]] = {}
    for line in lines:
        names = frozenset(name.strip().casefold() for name in line.rpartition("\t")[2].split(","))
        for name in names - {""}:
            synonyms[name] = synonyms.get(name, frozenset()) | names
    return synonyms


def add_synonyms(label: str, synonyms: Mapping[str, frozenset[str]]) -> str:
    """Returns a label with the synonyms of its names, separated by commas."""
    names = [name.strip() for name in label.split(",") if name.strip()]
    known = {name.casefold() for name in names}
    others = {other for name in names for other in synonyms.get(name.casefold(), ())} - known
    return ", ".join([*names, *sorted(others)])


@cache
def label_words(label: str) -> frozenset[str]:
    """Returns the words of a label, its synonyms and its kind ("dog" for a retriever), in both numbers.

    Synonyms are separated by commas, as in the names of ImageNet's classes.
    """
    words = set(WORD.findall(label.casefold().replace("_", " ")))
    words |= {part for word in words for part in re.split(rf"[-{APOSTROPHES}]", word) if len(part) > 2}
    return frozenset(form for word in words | label_kinds(label) for form in word_forms(word))


@cache
def label_kinds(label: str) -> frozenset[str]:
    """Returns the kinds that the names of a label belong to: "dog" for a retriever."""
    names = [name.strip() for name in label.casefold().replace("_", " ").split(",") if name.strip()]
    return frozenset(
        kind for kind, members in _read_kinds().items() if any(_ends_with(name, members) for name in names)
    )


def word_forms(word: str) -> frozenset[str]:
    """Returns a noun in both numbers."""
    one = singular(word)
    return frozenset((word, one, plural(one))) | rare_plurals(one)


def label_positions(text: str, label: str) -> list[tuple[int, int]]:
    """Returns where the words of a label stand in a text."""
    protected = label_words(label) if label else frozenset()
    return [
        match.span()
        for match in WORD.finditer(text)
        if match[0].casefold() in protected
        or protected & set(re.split(rf"[{APOSTROPHES}-]", match[0].casefold()))
    ]


def _ends_with(name: str, members: frozenset[str]) -> bool:
    """Returns whether a name, or its last words, are one of the members."""
    words = name.split()
    return any(" ".join(words[i:]) in members for i in range(len(words)))


@cache
def _read_kinds() -> dict[str, frozenset[str]]:
    """Returns the members of each kind; a kind is a member of its synonyms too."""
    return {kind: frozenset(members) for kind, members in read_yaml(KINDS_FILE).items()}
