"""Rewriting by rule: an expression gives way to the same form of the new value, or a phrase is inserted.

Every change is a range of the caption and its new words, so that nothing else of the caption can change.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from ..types import Edit, Expression
from .draft import BACKDROP_ORDER, Draft
from .labels import label_positions
from .matching import Match, Range, best_match, find_matches, fixed_ranges, negated_range, overlaps
from .nouns import end_of_person, noun_position
from .places import has_scene, move_preposition, start_of_conditions, start_of_place, write_backdrop
from .vocabulary import Attribute, Value, Vocabulary, compile_pattern
from .words import (
    ARTICLES,
    COPULAS,
    PREPOSITIONS,
    WORD,
    is_content,
    is_english,
    is_plural,
    plural,
    singular,
    with_article,
    word_after,
    word_before,
)

DETAIL = re.compile(
    r"\s+((on|over) (top of )?(the|its|his|her|their) \w+|(?!during)\w+(ing|ed)\b((?!,? while\b)[^,.;])*)",
    re.I,
)
"""What a weather does, which another one may not do: "snow on its roof", "snow piling up on her hat"."""
WIDER = re.compile(r"\s+|\s+(in|at|on)\s+((an?|the)\s+)?(\w+\s+)?", re.IGNORECASE)
"""What stands between a place and a wider one, which goes with it: a pond "in" a park."""
BEFORE_DETAIL = re.compile(r"(\bwith|,)\s+((the|some|a lot of|lots of)\s+)?$", re.IGNORECASE)


def rewrite_by_phrases(
    text: str,
    vocabulary: Vocabulary,
    expressions: Mapping[str, Expression],
    values: Mapping[str, str],
    label: str,
) -> tuple[str, tuple[Edit, ...]]:
    """Returns a caption with new values for some of its attributes, and the edits."""
    draft = Draft(text, [*label_positions(text, label), *fixed_ranges(text)])
    matches = find_matches(text, vocabulary, expressions, draft.label)
    scenes = [m for m in matches if vocabulary.get(m.attribute).scene and not m.negated]
    rooms = [vocabulary.get(m.attribute) for m in scenes]
    for name, new in values.items():
        place = vocabulary.get(name)
        is_apart = any(a.is_room(new) for a in rooms) or has_scene(draft, place, scenes)
        if place.prepositions and (expressions[name].span or not is_apart):
            draft.places.append(new)
    draft.conditions = start_of_conditions(text, scenes)
    draft.expressions = [m.range for m in matches]
    edits = []
    for name in sorted(values, key=lambda a: not expressions[a].span):
        attribute = vocabulary.get(name)
        value = attribute.value(values[name])
        own = [m for m in matches if m.attribute == name]
        span = expressions[name].span
        phrase = _replace_expression(draft, attribute, value, own, span) if span else ""
        phrase = phrase or _affirm(draft, value, own)
        phrase = phrase or _insert(draft, attribute, value, values[name], matches)
        edits.append(Edit(name, span, values[name], "" if phrase == values[name] else phrase))
        for match in own:
            if match.negated and match.value.name == value.name:
                draft.replace(negated_range(text, match), "")
    for name in values:
        unchanged = [m for m in matches if m.attribute not in values]
        _remove_contradictions(draft, vocabulary.get(name).value(values[name]), unchanged)
    order = list(values)
    return draft.finish(), tuple(sorted(edits, key=lambda edit: order.index(edit.attribute)))


def _replace_expression(
    draft: Draft, attribute: Attribute, value: Value, matches: Sequence[Match], span: str
) -> str:
    """Replaces what expresses an attribute. Returns the words written, "" where the value lacks the form."""
    own = [m for m in matches if not m.negated]
    stated = [m for m in own if draft.text[m.start : m.end] == span]
    main = best_match(stated, attribute, draft.text, draft.label)
    if main is None:
        main = _match_of_unknown_words(draft, attribute, span)
    if main is None:
        return ""
    following = [m for m in own if main.end < m.start and draft.text[main.end : m.start].isspace()]
    if attribute.scene and following and draft.delete(main.range):  # "moonlit night"
        own = [m for m in own if m is not main]
        main = following[0]
    listed = [m for m in own if m is not main and _is_in_list(draft.text, main, m, own)]
    same = [m for m in listed if m.value.name == value.name]
    if same and draft.delete(main.range):  # "rainy and foggy" is not to become "foggy and foggy"
        words = draft.text[slice(*same[0].range)]
    else:
        words = _replace_match(draft, attribute, value, main)
    for match in own:
        is_same = match.value.name == main.value.name
        is_same_object = attribute.scene or attribute.prepositions
        is_same_words = draft.text[match.start : match.end].casefold() == span.casefold()
        is_due = attribute.scene or is_same_words or (is_same and is_same_object)
        is_wider = attribute.prepositions and WIDER.fullmatch(draft.text[main.end : match.start])
        if is_wider and draft.replace((main.end, match.end), ""):
            continue
        if match is main or match.value.name == value.name or not is_due:
            continue
        is_redundant = match.form == "phrase" or _is_coordinated(draft, match)
        if not (words and is_redundant and draft.delete(match.range)):
            words = _replace_match(draft, attribute, value, match) or words
    return words


def _affirm(draft: Draft, value: Value, matches: Sequence[Match]) -> str:
    """Turns "it is not night yet", or "no snow" at the beginning, round. Returns the words, "" for none."""
    for match in matches:
        words, (start, _) = draft.text[slice(*match.range)], negated_range(draft.text, match)
        negated = re.compile(r"\s*(not|no)\s", re.IGNORECASE).match(draft.text, start)
        is_said = not start or word_before(draft.text, start) in COPULAS
        if match.negated and match.value.name == value.name and negated and is_said:
            yet = re.compile(r"\s+yet\b").match(draft.text, match.end)
            space = " " if start else ""
            if draft.replace((start, yet.end() if yet else match.end), space + words):
                return words
    return ""


def _is_in_list(text: str, first: Match, second: Match, matches: Sequence[Match]) -> bool:
    """Returns whether nothing but commas, "and" and other expressions stands between two expressions."""
    start, end = min(first.end, second.end), max(first.start, second.start)
    between = text[start:end]
    for match in matches:
        if start <= match.start and match.end <= end:
            between = between.replace(text[slice(*match.range)], "")
    return bool(re.fullmatch(r"(\s|,|and|or)+", between))


def _is_coordinated(draft: Draft, match: Match) -> bool:
    """Returns whether an expression is joined to one that is replaced: "rainy and windy"."""
    return any(
        re.fullmatch(r"(,|,?\s+and)\s+", draft.text[end : match.start])
        or re.fullmatch(r"(,|,?\s+and)\s+", draft.text[match.end : start])
        for start, end in draft.changes
    )


def _match_of_unknown_words(draft: Draft, attribute: Attribute, span: str) -> Match | None:
    """Returns the place of words that the vocabulary does not know, which a language model chose."""
    match = re.search(rf"(?<!\w){re.escape(span)}(?!\w)", draft.text)
    if match is None or not draft.is_free(match.span()):
        return None
    start, end = match.span()
    if is_content(word_after(draft.text, end)):
        return Match(attribute.name, Value(span), "modifier", start, end)
    prepositional = re.search(r"(?<!\w)(\w+)(\s+(?:a|an|the))?\s+$", draft.text[:start])
    if prepositional and prepositional[1].casefold() in PREPOSITIONS:
        return Match(attribute.name, Value(span), "phrase", prepositional.start(), end)
    return Match(attribute.name, Value(span), "noun", start, end)


def _replace_match(draft: Draft, attribute: Attribute, value: Value, match: Match) -> str:
    """Replaces one expression by the same form of a value. Returns the words, "" for a deletion."""
    words = _write(draft, attribute, value, match)
    if words is None or (match.form == "modifier" and not _can_describe(value, draft.text, match.end)):
        draft.delete(_phrase_range(draft.text, match.range))
        return ""
    text = draft.text
    detail = match.form == "noun" and attribute.uncountable and DETAIL.match(text, match.end)
    if detail and (before := BEFORE_DETAIL.search(text[: match.start])):
        phrase = _write_phrase(attribute, value, draft.places or [text])
        start = len(text[: before.start()].rstrip())
        return phrase if draft.replace((start, detail.end()), f" {phrase}") else ""
    start, end = match.range
    listed = re.compile(r"\s+and\s+").match(text, end)
    if match.form == "phrase" and text[start:].startswith("with ") and listed and "with " not in words:
        return words if draft.replace((start, listed.end()), f"{words} with ") else ""
    if match.form == "noun" and attribute.uncountable and word_before(text, start) in ARTICLES:
        start = text.casefold().rindex(word_before(text, start), 0, start)
    if match.form == "noun" and attribute.prepositions:
        move_preposition(draft, value, match)
        start = start_of_place(draft, start)
        word = word_before(text, start)
        if (word in PREPOSITIONS | {"and"} or not word) and not is_plural(words.split()[-1]):  # "at sea"
            words = f"{with_article(words)} {words}"
    draft.replace((start, end), words)
    return words


def _write(draft: Draft, attribute: Attribute, value: Value, match: Match) -> str | None:
    """Returns the words of a value in form and number of an expression, None where it lacks the form."""
    text = draft.text[slice(*match.range)]
    before = word_before(draft.text, match.start)
    words = value.write(match.form)
    if words is None and match.form == "bare":
        words = value.write("modifier")
    if match.form == "phrase":
        words = _write_phrase(attribute, value, draft.places)
    if match.form == "noun" and before.endswith("day") and "this " in (this := value.write("this") or ""):
        words = this.split()[-1]  # no "Sunday day"
    if words and match.form == "noun" and not attribute.uncountable and is_plural(text.split()[-1]):
        if attribute.prepositions and (before in PREPOSITIONS | {"the", "and"} or not before):
            return singular(words)  # "the mountains" are one place
        return plural(singular(words)) if " " not in words else plural(words)
    if words and match.form == "sky" and text.casefold().endswith("skies"):
        return re.sub("sky$", "skies", words)
    return words


def _insert(draft: Draft, attribute: Attribute, value: Value, name: str, matches: Sequence[Match]) -> str:
    """Puts a value into a caption that does not express the attribute. Returns the words inserted.

    `name` is what the value was called. `matches` are the expressions of all attributes.
    """
    words = value.write("modifier") if is_english(draft.text) else None
    if words and _insert_adjective(draft, attribute, words, attribute.nouns):
        return words
    if attribute.backdrop and name not in draft.places:
        phrase = write_backdrop(attribute, value)
        draft.endings.append((BACKDROP_ORDER, phrase))
        return phrase.removeprefix("with ")
    phrase = _write_phrase(attribute, value, draft.places or [draft.text])
    position = draft.conditions if attribute.prepositions else None
    if position is not None and draft.replace((position, position), f" {phrase}"):
        return phrase
    if attribute.worn and words and (person := end_of_person(draft, matches, attribute.people)):
        worn = attribute.worn.format(value=words)
        if draft.replace((person, person), f" {worn}"):
            return worn
    others = attribute.others | {singular(draft.text[slice(*label)].casefold()) for label in draft.label}
    if words and attribute.others and _insert_adjective(draft, attribute, words, [others]):
        return words
    draft.endings.append((attribute.order, phrase))
    return phrase


def _insert_adjective(
    draft: Draft, attribute: Attribute, words: str, groups: Iterable[frozenset[str]]
) -> bool:
    """Inserts an adjective before a noun of the groups. Returns whether there is one."""
    position = noun_position(draft, attribute, groups)
    if position is not None:  # another adjective stands before
        draft.changes[position, position] = f"{draft.changes.get((position, position), '')}{words} "
    return position is not None


def _write_phrase(attribute: Attribute, value: Value, places: Iterable[str]) -> str:
    """Returns the phrase for a value; where one of the places is a room: "with rain outside"."""
    if any(map(attribute.is_room, places)):
        return value.write("indoors") or attribute.indoors.format(noun=value.write("noun"))
    return value.write("phrase") or f"with {value.name} {attribute.name}"


def _can_describe(value: Value, text: str, position: int) -> bool:
    """Returns whether the modifier of a value can stand before the noun after a position."""
    nouns = set()
    for match in WORD.finditer(text, position):
        word = match[0].casefold()
        if not is_content(word) and word != "and":
            break
        nouns.add(singular(word))
        if not re.match(r",?\s+\w", text[match.end() :]):
            break
    return not value.before or not nouns - {"and"} or bool(nouns & value.before)


def _remove_contradictions(draft: Draft, value: Value, matches: Sequence[Match]) -> None:
    """Removes what cannot stand beside a value; expressions of other attributes are only put otherwise."""
    for pattern, words in value.contradicts.items():
        for match in compile_pattern(pattern).finditer(draft.text):
            if not words and overlaps(match.span(), [m.range for m in matches]):
                continue
            new = match.expand(words)
            if words and new.casefold() not in draft.text.replace(match[0], "").casefold():
                draft.replace(match.span(), new)
            else:
                draft.delete(match.span())


def _phrase_range(text: str, span: Range) -> Range:
    """Returns a range with the preposition, the article and the adjectives before it."""
    start = span[0]
    while not is_content(word_after(text, span[1])) and (word := word_before(text, start)):
        start = text.casefold().rindex(word, 0, start)
        if word in PREPOSITIONS:
            return start, span[1]
        if not is_content(word) and word not in (*ARTICLES, "the"):
            break
    return span
