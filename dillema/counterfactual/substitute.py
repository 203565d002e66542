"""Rewriting by replacement of words wherever they stand."""

import re
from collections.abc import Sequence

from ..types import Edit
from .words import with_article


def substitute(text: str, edits: Sequence[Edit]) -> str:
    """Returns a text with the words of every edit replaced; an "a" or "an" before them follows."""
    replacements = {e.original.casefold(): e.replacement for e in edits}
    words = "|".join(re.escape(e.original) for e in sorted(edits, key=lambda e: -len(e.original)))

    def replaced(match: re.Match[str]) -> str:
        article, space, word = match[1] or "", match[2] or "", replacements[match[3].casefold()]
        if article:
            new = with_article(word)
            article = new.capitalize() if article[0].isupper() else new
        return article + space + (word[0].upper() + word[1:] if match[3][0].isupper() else word)

    return re.sub(rf"(?<!\w)(?:(an?)(\s+))?({words})(?!\w)", replaced, text, flags=re.IGNORECASE)
