"""The words that name a label, which an edit never touches."""

import re
from functools import cache
from pathlib import Path

from .vocabulary import read_yaml
from .words import APOSTROPHES, WORD, plural, singular

KINDS_FILE = Path(__file__).parent / "kinds.yaml"


@cache
def label_words(label: str) -> frozenset[str]:
    """Returns the words of a label, its synonyms and its kind ("dog" for a retriever), in both numbers.

    Synonyms are separated by commas, as in the names of ImageNet's classes.
    """
    names = [name.strip() for name in label.casefold().split(",") if name.strip()]
    words = {word for name in names for word in WORD.findall(name)}
    words |= {part for word in words for part in re.split(rf"[-{APOSTROPHES}]", word) if len(part) > 2}
    words |= {
        kind for kind, members in _read_kinds().items() if any(_ends_with(name, members) for name in names)
    }
    return frozenset(
        form for word in words for form in (word, plural(word), singular(word), plural(singular(word)))
    )


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
