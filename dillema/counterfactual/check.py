"""Whether what a language model wrote keeps to what was asked of it."""

import re
from collections.abc import Iterable, Mapping

from ..types import Expression
from .labels import label_positions, label_words
from .matching import find_matches
from .vocabulary import Vocabulary
from .words import WORD, singular

NO_VALUES = frozenset(
    ["caption", "image", "mentioned", "none", "photo", "photograph", "picture", "scene", "unknown", "view"]
)
"""Words that language models write where they have no value."""


def fit_value(vocabulary: Vocabulary, attribute: str, value: str, original: str, label: str) -> str:
    """Returns a free value as it can be written, "" if it does not fit.

    A value fits if the vocabulary knows words of it for the attribute and none for another one: fog is no
    background, a sofa no weather; these words alone are written ("sunny" of "sunny sun"). Places may take
    words that it does not know, attributes that it does not have may take any. The original, its synonyms
    and the label do not fit.
    """
    words = {singular(word) for word in WORD.findall(value.casefold())}
    original_words = {singular(word) for word in WORD.findall(original.casefold())}
    own = vocabulary.get(attribute)
    is_listed = any(v.is_called(value) for v in own.values)
    names = {word for name in (attribute, own.name, *own.names) for word in name.split()}
    if words & (original_words | NO_VALUES | label_words(label)) or (words & names and not is_listed):
        return ""
    matches = find_matches(value, vocabulary, (a.name for a in vocabulary.attributes), ())
    known = [value] if is_listed else [value[m.start : m.end] for m in matches if m.attribute == own.name]
    if any(v.is_expressed_by(original) and any(map(v.is_called, [value, *known])) for v in own.values):
        return ""
    if is_listed or not own.values:
        return value
    if any(m.attribute != own.name for m in matches) or any(
        name != own.name for word in WORD.findall(value) for name in vocabulary.find_attributes(word)
    ):
        return ""
    if own.prepositions:
        return value
    return next((text for text in known if any(v.is_called(text) for v in own.values)), "")


def check_sentence(
    vocabulary: Vocabulary,
    text: str,
    sentence: str,
    expressions: Mapping[str, Expression],
    values: Mapping[str, str],
    label: str,
) -> bool:
    """Returns whether a sentence holds the new values, no original, the label, and nothing else anew."""
    lowered = sentence.casefold()
    if not all(_holds(lowered, value) for value in values.values()):
        return False
    if any(_holds(lowered, expressions[a].span) for a in values if expressions[a].span):
        return False
    label_before = [text[start:end].casefold() for start, end in label_positions(text, label)]
    label_after = [sentence[start:end].casefold() for start, end in label_positions(sentence, label)]
    if label_before != label_after or not 0.5 <= len(sentence.split()) / len(text.split()) <= 2:
        return False
    before, after = (_values_by_attribute(vocabulary, each, expressions, label) for each in (text, sentence))
    if any(before.get(a) != after.get(a) for a in expressions if a not in values):
        return False
    expected = {a: vocabulary.get(a).value(value).name for a, value in values.items()}
    return all(after.get(a, {expected[a]}) == {expected[a]} for a in values if vocabulary.get(a).scene)


def _values_by_attribute(
    vocabulary: Vocabulary, text: str, expressions: Iterable[str], label: str
) -> dict[str, set[str]]:
    """Returns the values that a text expresses, by attribute."""
    values: dict[str, set[str]] = {}
    for match in find_matches(text, vocabulary, expressions, label_positions(text, label)):
        if not match.negated:
            values.setdefault(match.attribute, set()).add(match.value.name)
    return values


def _holds(text: str, words: str) -> bool:
    """Returns whether a text in lower case holds words."""
    return bool(re.search(rf"(?<!\w){re.escape(words.casefold())}(?!\w)", text))
