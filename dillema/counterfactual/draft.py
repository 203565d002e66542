"""A caption in the course of being rewritten: its ranges that change, and how the parts are joined."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .matching import Range, overlaps
from .words import APOSTROPHES, QUOTE, WORD, is_english, with_article

BACKDROP_ORDER = 8
"""Of what stands behind the scene, among the phrases that are added."""
CLAUSE = re.compile(
    r"\s*;|:\s|,\s+(yet|but|so|while|whereas|because|although|though)\b|\s+while\s+(?!\w+ing\b)"
    rf"|,\s+(and\s+)?(a|an|the|his|her|its|their)\s+([\w{APOSTROPHES}-]+\s+){{1,2}}"
    r"(is|are|was|were|has|have)\b|,\s+(and\s+)?(it|he|she|they|there) (is|are|was|were|has|have)\b",
    re.IGNORECASE,
)
"""What parts a clause from the next one."""
ABSOLUTE = re.compile("(the|everything) ")
"""The beginning of a phrase with a subject of its own: "the whole scene in shades of green"."""


@dataclass
class Draft:
    """A caption in the course of being rewritten.

    Attributes:
        label: Where the words of the label stand.
        changes: The ranges that change, with their new words.
        endings: The phrases that are added to the sentence, with their order.
        expressions: Where attributes are expressed.
        places: Where the scene is moved to.
        conditions: Where weather and time begin at the end of the sentence, None where they do not end it.
    """

    text: str
    label: Sequence[Range]
    expressions: Sequence[Range] = ()
    changes: dict[Range, str] = field(default_factory=dict)
    endings: list[tuple[int, str]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    conditions: int | None = None

    def is_free(self, span: Range) -> bool:
        """Returns whether a range holds neither a word of the label nor an earlier change."""
        return not overlaps(span, self.label) and not overlaps(span, self.changes)

    def replace(self, span: Range, words: str) -> bool:
        """Replaces a range (an empty one: inserts), unless it is not free. Returns whether it did."""
        if not self.is_free(span) or (span[0] == span[1] and span in self.changes):
            return False
        self.changes[span] = words
        return True

    def delete(self, span: Range) -> bool:
        """Deletes a range with the space, the comma or the "and" that joins it."""
        return self.replace(_joined_range(self.text, span), "")

    def finish(self) -> str:
        """Returns the rewritten caption."""
        scene = [ending for ending in self.endings if ABSOLUTE.match(ending[1])]
        endings = sorted(ending for ending in self.endings if ending not in scene)
        if endings:
            position = end_of_clause(self.text)
            phrases = _enumerate(endings)
            comma = "," if _needs_comma(self._rewrite(position), phrases) else ""
            is_part = "," in comma + phrases and re.match(r"\s+while\b", self.text[position:])
            self.changes[position, position] = f"{comma} {phrases}{',' if is_part else ''}"
        text = self._rewrite(len(self.text))
        end = len(text.rstrip(" .!?,;"))
        end += re.search(r"\.\w$", text[:end]) is not None and text.startswith(".", end)  # "6 p.m."
        text = text[:end] + "".join(f", {words}" for _, words in scene) + text[end:]
        return text.upper() if self.text.isupper() else text

    def _rewrite(self, length: int) -> str:
        """Returns the first characters of the caption with their changes."""
        text = self.text[:length]
        for (start, end), words in sorted(self.changes.items(), reverse=True):
            if end <= length:
                is_capital = self.text[start : start + 1].isupper()
                is_capital &= start < end or re.search(r"(^|[.!?]\s+)$", text[:start]) is not None
                text = _join(text[:start], words, text[end:], is_capital)
        return text


def _joined_range(text: str, span: Range) -> Range:
    """Returns a range with the space, the comma or the "and" that joins it to its neighbours."""
    start, end = span
    after = re.match(r"(\s+and|\s*,)\s+", text[end:])
    before = re.search(r"(,\s*|\s+and\s+|,\s+and\s+)$", text[:start])
    is_last = not text[end:].strip(" .!?")
    is_in_list = bool(before and before[0].strip() == ",")  # of "a, b and c", "a and c" is left
    if before and (is_last or is_in_list or text[end : end + 1] == "," or not after):
        return before.start(), end
    if after:
        return start, end + after.end()
    spaces = re.match(r"\s+", text[end:])
    if spaces:
        return start, end + spaces.end()
    leading = re.search(r"\s+$", text[:start])
    return (leading.start() if leading else start), end


def end_of_sentence(text: str) -> int:
    """Returns the position after the last word of the first sentence."""
    for match in re.finditer(r"[.!?]+(?=[\"\u201d]?(\s|$))", text):
        word = re.search(r"[\w.]+$", text[: match.start()])
        is_last = not text[match.end() :].strip()
        if word and "." in word[0] and is_last:
            return match.end()  # "6 p.m."
        is_abbreviation = word and (len(word[0]) < 3 or word[0] in ("Mrs", "etc") or "." in word[0])
        if is_last or not is_abbreviation:
            return match.start()
    return len(text.rstrip(" ,;"))


def end_of_clause(text: str) -> int:
    """Returns the position after the first clause of the first sentence, to which a phrase is added."""
    quotes = [match.span() for match in QUOTE.finditer(text)]
    end = end_of_sentence(text)
    for match in CLAUSE.finditer(text, 0, end):
        if len(text[: match.start()].split()) > 2 and not overlaps(match.span(), quotes):
            return match.start()
    return end


def _enumerate(endings: Sequence[tuple[int, str]]) -> str:
    """Returns the phrases as one: "with rain outside at night and a desert in the background"."""
    *others, last = (words for _, words in endings)
    if not others or endings[-1][0] != BACKDROP_ORDER:
        return " ".join([*others, last])
    if any(words.startswith("with ") for words in others):
        return f"{' '.join(others)} and {last.removeprefix('with ')}"
    return f"{' '.join(others)}, {last}"


def _needs_comma(sentence: str, phrase: str) -> bool:
    """Returns whether a phrase at the end needs a comma before it."""
    last_part = re.split(r"[,;]", sentence)[-1]
    has_clause = bool(
        re.search(
            r"\b(that|which|who|while|but|as|before|until|when|if|reading|says|saying|where|because)\b",
            sentence,
        )
    )
    is_short_part = "," in sentence and len(last_part.split()) < 5
    ends_with_quote = bool(re.search(r"[\"'\u201d\u2019»]$", sentence))
    # or else "with water on its skin in a forest" would be about the skin
    detail = r"\b((its|his|her|their)( [\w-]+){1,2}|on (it|them|him|her))$"
    ends_with_detail = bool(re.search(detail, last_part))
    is_second = phrase.startswith("with ") and bool(re.search(r"\bwith\b", sentence))
    is_apart = ends_with_quote or ends_with_detail or is_second or not is_english(sentence)
    return has_clause or is_short_part or is_apart or len(sentence.split()) > 14


def _join(before: str, words: str, after: str, is_capital: bool) -> str:
    """Returns the parts as one text: an article before, and a capital letter, follow the new words."""
    following = words + after if words else after
    if is_capital:
        following = following[:1].upper() + following[1:]
        if not words.strip() or words.endswith(" "):  # an insertion or a deletion, before the old first word
            following = (
                following[: len(words)] + _lower_first(following[len(words) :]) if words else following
            )
    article = re.search(rf"(?<![\w{APOSTROPHES}-])(an?)(\s+)$", before, re.IGNORECASE)
    if article and following.strip():
        new = with_article(following.strip().split()[0])
        new = new.capitalize() if article[1][0].isupper() else new
        before = before[: article.start()] + new + article[2]
    return before + following


def _lower_first(text: str) -> str:
    """Returns a text whose first word is no longer the first of its sentence."""
    first = WORD.match(text)
    return text[:1].lower() + text[1:] if first and first[0][1:].islower() else text
