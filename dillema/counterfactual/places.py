"""Where a scene is: a place that the caption expresses, and one that is put into it."""

import re
from collections.abc import Sequence

from .draft import Draft, end_of_clause
from .matching import Match, overlaps
from .vocabulary import Attribute, Value, compile_pattern
from .words import (
    ADJECTIVES,
    DETERMINERS,
    OWNER,
    POSSESSIVES,
    PREPOSITIONS,
    TERRAIN,
    WORD,
    is_content,
    is_plural,
    with_article,
    word_before,
)

MOVED_PREPOSITIONS = frozenset(["in", "on", "at", "inside", "upon", "onto", "into"])
"""Prepositions that depend on the place: "on a beach", but "in a forest". The others ("near") stay."""
WAYS = frozenset(["along", "down", "up"])
"""Prepositions of places that have a length; others have an inside: "down a road", "through a kitchen"."""
PARTS = frozenset(
    ["ceiling", "counter", "countertop", "door", "floor", "shelf", "wall", "window", "windowsill"]
)
"""What rooms have and other places lack: "the floor of a kitchen"."""
SCENE = re.compile(
    r"\b(?=(in|inside|at|near|through|across|along|over|around|down|up|among|amid|into|outside)"
    rf"\s+(?:(?:the|an?|its|his|her|their|some)\s+)?({WORD.pattern}))",
    re.IGNORECASE,
)
"""Where something is, in words that the vocabulary may lack: "in a zoo", "across the ice"."""
CONDITIONS = re.compile(
    r"(?<!out)(?<!looking)(?<!looks)(?<!staring)\s(?:on|at|in|during|under|beneath|against)"
    r"\s+(?:(?:an?|the)\s+)?(?:[\w-]+\s+){0,2}$",
    re.I,
)
"""What stands before a time of day or a weather at the end of a sentence: "on a bright" afternoon."""


def has_scene(draft: Draft, attribute: Attribute, scenes: Sequence[Match]) -> bool:
    """Returns whether a caption says where its scene is, so that it cannot be in another place as well.

    `scenes` are the expressions of weather, time and the like, which are no places.
    """
    text, taken = draft.text, [m.range for m in scenes]
    if any(value.is_called(text[slice(*label)]) for label in draft.label for value in attribute.values):
        return True
    heads = "|".join(map(re.escape, sorted(attribute.heads.get("on", ()))))
    patterns = [f"({noun})s?" for noun in attribute.scenery]
    patterns += [rf"on (\w+ ){{0,3}}({heads})s?"] if heads else []
    spans = [match.span() for pattern in patterns for match in compile_pattern(pattern).finditer(text)]
    places = (match for match in SCENE.finditer(text) if is_content(match[2].casefold()))
    spans += [match.span(2) for match in places if not overlaps(match.span(2), draft.label)]
    return any(not overlaps(span, taken) for span in spans)


def write_backdrop(attribute: Attribute, value: Value) -> str:
    """Returns the phrase for a place behind the scene: "with a forest in the background"."""
    noun = value.write("noun") or value.name
    is_many = is_plural(noun.split()[-1])
    return attribute.backdrop.format(noun=noun if is_many else f"{with_article(noun)} {noun}")


def start_of_conditions(text: str, scenes: Sequence[Match]) -> int | None:
    """Returns where weather and time at the end of a clause begin, before which a place is inserted."""
    end = end_of_clause(text)
    position = end
    for match in sorted(scenes, key=lambda m: -m.start):
        if match.end == position and match.form == "phrase":
            position = len(text[: match.start].rstrip())
        elif match.end == position and match.form in ("noun", "bare", "sky"):
            before = CONDITIONS.search(text[: match.start])
            if before and all(map(is_content, before[0].casefold().split()[2:])):
                position = before.start()
    return position if 0 < position < end else None


def start_of_place(draft: Draft, start: int) -> int:
    """Returns where a place begins with the words that other places cannot have: a "football" field."""
    text, position = draft.text, start
    while (word := word_before(text, position)) and (is_content(word) or word in POSSESSIVES):
        if is_plural(OWNER.sub("", word)):
            return start
        if word in ADJECTIVES - TERRAIN:
            return position
        begin = text.casefold().rindex(word, 0, position)
        if overlaps((begin, start), [*draft.expressions, *draft.label]):
            return position
        position = begin
    return position if word in PREPOSITIONS | DETERMINERS else start


def move_preposition(draft: Draft, value: Value, match: Match) -> None:
    """Replaces the preposition before a place by the one of the new place."""
    position = match.start
    for _ in range(4):
        word = word_before(draft.text, position)
        if not word:
            return
        position = draft.text.casefold().rindex(word, 0, position)
        if word in PREPOSITIONS:
            preposition = (value.write("phrase") or word).split()[0]
            if word == "from" and re.search(r"\bdrink(s|ing)?\s+$", draft.text[:position], re.IGNORECASE):
                draft.replace((position, position + len(word)), preposition)
            if word == "of" and word_before(draft.text, position) in PARTS:
                draft.replace((position, position + len(word)), preposition)
            if word == "through" and preposition == "on":
                draft.replace((position, position + len(word)), "along")
            if word in WAYS and preposition == "in":
                draft.replace((position, position + len(word)), "through")
            if word in MOVED_PREPOSITIONS and preposition in PREPOSITIONS and preposition != word:
                draft.replace((position, position + len(word)), preposition)
            return
