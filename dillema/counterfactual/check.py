"""Whether what a language model wrote keeps to what was asked of it."""

import re
from collections.abc import Mapping

from ..types import Expression
from .labels import label_positions, label_words
from .matching import find_matches
from .vocabulary import Vocabulary
from .words import WORD, singular


def is_other_value(
    vocabulary: Vocabulary, attribute: str, value: str, expressions: Mapping[str, Expression], label: str
) -> bool:
    """Returns whether a free value fits the attribute and is neither the original, a synonym nor the label.

    A value that the vocabulary knows for another attribute of the caption does not fit: fog is no background.
    """
    original = expressions[attribute].span
    words = {singular(word) for word in WORD.findall(value.casefold())}
    original_words = {singular(word) for word in WORD.findall(original.casefold())}
    if words & original_words or words & label_words(label):
        return False
    own = vocabulary.get(attribute)
    if any(v.is_called(value) and v.is_expressed_by(original) for v in own.values):
        return False
    meanings = set(vocabulary.find_attributes(value))
    others = {vocabulary.get(name).name for name in expressions}
    return own.name in meanings or not meanings & others


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
    vocabulary: Vocabulary, text: str, expressions: Mapping[str, Expression], label: str
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
