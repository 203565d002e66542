"""Captions that name another class than their image's, and what they should say."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .check import NO_VALUES
from .labels import add_synonyms, label_kinds, word_forms
from .matching import SCENE_NOUNS, is_negated
from .words import (
    APOSTROPHES,
    STOP_WORDS,
    WORD,
    is_content,
    is_plural,
    plural,
    singular,
    with_article,
    word_after,
)

NO_CLASSES = STOP_WORDS | NO_VALUES | SCENE_NOUNS | {"other"}
"""Words that a caption may hold without naming a class that is called so."""

POSSESSIVE = re.compile(rf"[{APOSTROPHES}]s$")


@dataclass(frozen=True)
class _Mention:
    """Where a text names classes: by a name of theirs, or by a more general word (a dog for a retriever)."""

    start: int
    end: int
    classes: frozenset[int]


class ClassNames:
    """The words by which captions name the classes of a data set: names, synonyms, head nouns and kinds."""

    def __init__(self, classes: Sequence[str], synonyms: Mapping[str, frozenset[str]]) -> None:
        names: dict[str, set[int]] = {}
        general: dict[str, set[int]] = {}
        for class_id, label in enumerate(classes):
            all_names = [_plain(name) for name in add_synonyms(label, synonyms).split(",") if name.strip()]
            for word in all_names:
                _add(names, word, class_id)
            for word in [_head(name) for name in all_names] + sorted(label_kinds(label)):
                _add(general, word, class_id)
        self._labels = [_plain(label.split(",")[0]) for label in classes]
        # a class that is called "car" is meant by the word, not the sports cars of another one
        self._classes = {word: frozenset(ids) for word, ids in {**general, **names}.items()}
        self._longest = max((len(word.split()) for word in self._classes), default=0)

    def names(self, text: str) -> list[frozenset[int]]:
        """Returns the classes that each noun of a text may stand for, of those nouns that name any."""
        return [mention.classes for mention in self._find(text)]

    def correct(self, text: str, label: int) -> str:
        """Returns a text that does not contradict a label: itself, or with the label in place of a class.

        A text contradicts its label if it names other classes and nowhere that of the label. The class that
        it names first is then replaced wherever it is named.
        """
        mentions = self._find(text)
        if not mentions or any(label in mention.classes for mention in mentions):
            return text
        for mention in reversed(mentions):
            if mention.classes == mentions[0].classes:
                text = _replace(text, mention, self._labels[label])
        return text

    def _find(self, text: str) -> list[_Mention]:
        """Returns where a text names classes, the longest names first; no two overlap."""
        words = [match.span() for match in WORD.finditer(text)]
        mentions: list[_Mention] = []
        first = 0
        while first < len(words):
            mention: _Mention | None = None
            last = min(first + self._longest, len(words))
            while last > first and mention is None:
                mention = self._read(text, words[first][0], words[last - 1][1])
                last -= 1
            if mention is not None:
                mentions.append(mention)
            first = first + 1 if mention is None else last + 1
        return mentions

    def _read(self, text: str, start: int, end: int) -> _Mention | None:
        """Returns the classes that a part of a text names; None for none, for "orange" of "orange van"."""
        words = POSSESSIVE.sub("", text[start:end])
        classes = self._classes.get(_plain(words))
        end = start + len(words)
        if classes is None or is_content(word_after(text, end)) or is_negated(text, start):
            return None
        return _Mention(start, end, classes)


def _add(words: dict[str, set[int]], word: str, class_id: int) -> None:
    """Adds a word in both numbers, unless it is none that a caption names a class by, such as 3."""
    if word in NO_CLASSES or not re.search(r"[^\W\d_]{2}", word):
        return
    for form in word_forms(word):
        words.setdefault(form, set()).add(class_id)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def _head(name: str) -> str:
    """Returns the noun that the other words of a name describe: "bag" of "mail bag" and of "bag of tea"."""
    return re.split(r" (?:of|with|for|in|on) ", name)[0].split()[-1]


def _replace(text: str, mention: _Mention, label: str) -> str:
    """Returns a text with a label in place of a mention, in its number and with the article that it needs."""
    old = text[mention.start : mention.end]
    is_many = is_plural(old.split()[-1].casefold())
    new = plural(singular(label)) if is_many else singular(label)
    before = text[: mention.start]
    if article := re.search(r"(?i)\b(an?)\s+$", before):
        before = before[: article.start()] + _like(with_article(new), article[1]) + before[article.end(1) :]
    return before + _like(new, old) + text[mention.end :]


def _like(word: str, old: str) -> str:
    """Returns a word with a capital where the old one has one."""
    return word[0].upper() + word[1:] if old[0].isupper() else word
