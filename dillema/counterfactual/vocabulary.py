"""The words for the values of attributes: how captions express them, and what cannot stand beside them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from .. import config
from ..errors import UserError
from .words import is_plural, singular, with_article

FOLDER = Path(__file__).parent / "vocabulary"
WORD_FORMS = ("modifier", "noun", "bare")
"""The forms that are told apart by the words around them."""
NO_FORMS = frozenset(["names", "iso_34503", "contradicts", "before"])
"""The keys of a value that hold no form of it."""
DEFAULT_FORMS = {
    "modifier": "{value}",
    "noun": "{value}",
    "bare": "{value}",
    "phrase": "with {value} {attribute}",
}


@dataclass(frozen=True)
class Value:
    """A value of an attribute.

    Attributes:
        name: Its name in the vocabulary.
        names: Other names, in lower case.
        forms: The patterns of each form; the first is plain words and is what is written.
        contradicts: What cannot stand beside the value, by pattern, and what replaces it ("" for nothing).
        before: The nouns that its modifier can describe, in the singular; empty for all: a day is cloudy, a
            bridge is not.
    """

    name: str
    names: frozenset[str] = frozenset()
    forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    contradicts: Mapping[str, str] = field(default_factory=dict)
    before: frozenset[str] = frozenset()

    def write(self, form: str) -> str | None:
        """Returns the words of a form, None where the value lacks it."""
        return self.forms[form][0] if form in self.forms else None

    def is_called(self, name: str) -> bool:
        """Returns whether a name means this value."""
        name = name.casefold()
        words = (pattern for form in WORD_FORMS for pattern in self.forms.get(form, ()))
        return name in self.names or any(compile_pattern(pattern).fullmatch(name) for pattern in words)

    def is_expressed_by(self, span: str) -> bool:
        """Returns whether a span of a caption is one of the forms of this value."""
        patterns = (pattern for form in self.forms.values() for pattern in form)
        return self.is_called(span) or any(compile_pattern(pattern).fullmatch(span) for pattern in patterns)


@dataclass(frozen=True)
class Attribute:
    """The vocabulary of one attribute; `vocabulary/README.md` describes the file.

    Attributes:
        scene: Whether the whole image has one value, so that all expressions of the attribute change
            together.
        uncountable: Whether its nouns have no indefinite article.
        prepositions: Whether a value has its own preposition ("on a beach", "in a forest"), as places have.
        heads: For places that are not listed: the nouns that go with each preposition other than "in".
        indoors: The phrase inserted into a caption that names one of `rooms`, for values without a form of
            that name; {noun} is filled in.
        backdrop: The phrase inserted into a caption that says in other words where its scene is, by one of
            `scenery` or by a preposition; {noun} is filled in.
        worn: The phrase inserted after one of `people` (nouns); {value} is filled in.
        others: The nouns before which an adjective is inserted where there are no `nouns` and no `people`.
    """

    name: str
    names: frozenset[str] = frozenset()
    order: int = 9
    scene: bool = False
    uncountable: bool = False
    prepositions: bool = False
    indoors: str = ""
    rooms: tuple[str, ...] = ()
    backdrop: str = ""
    scenery: tuple[str, ...] = ()
    worn: str = ""
    people: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    nouns: tuple[frozenset[str], ...] = ()
    joined: frozenset[str] = frozenset()
    heads: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    default: Mapping[str, str] = field(default_factory=lambda: DEFAULT_FORMS)
    values: tuple[Value, ...] = ()

    def value(self, name: str) -> Value:
        """Returns the value that a name means; a value that is not listed has the default forms.

        Where a name is one of several forms ("overcast" for cloudy), forms that hold it come first.
        """
        listed = next((v for v in self.values if name.casefold() == v.name), None)
        listed = listed or next((v for v in self.values if v.is_called(name)), None)
        if listed is None:
            words = {"value": name, "attribute": self.name}
            forms: dict[str, tuple[str, ...]] = {
                form: (text.format(**words),) for form, text in self.default.items()
            }
            if self.prepositions and "phrase" in forms:
                forms["phrase"] = (self._locate(name),)
            return Value(name, forms=forms)
        if name.casefold() == listed.name:
            return listed
        forms = {form: _put_first(name, form, patterns) for form, patterns in listed.forms.items()}
        if any(singular(name.split()[-1].casefold()) in nouns for nouns in self.heads.values()):
            forms["phrase"] = (self._locate(name), *forms.get("phrase", ()))
        return replace(listed, forms=forms)

    def is_room(self, text: str) -> bool:
        """Returns whether a place or a caption names a room, out of which the attribute is seen."""
        return any(compile_pattern(room).search(text) for room in self.rooms)

    def _locate(self, place: str) -> str:
        """Returns the phrase for a place that is not listed: "on a forest path", "at an old mill"."""
        head = place.split()[-1].casefold()
        preposition = next((p for p, nouns in self.heads.items() if singular(head) in nouns), "in")
        return f"{preposition} {place if is_plural(head) else with_article(place) + ' ' + place}"

    def listed(self, value: Value | str, span: str, allowed: Sequence[str]) -> str:
        """Returns which of the allowed values the words of a span mean, "" where it is none of them."""
        exact = [a for a in allowed if a.casefold() == span.casefold()]
        name = value if isinstance(value, str) else value.name
        return next(iter([*exact, *(a for a in allowed if self.value(a).name == name)]), "")


@dataclass(frozen=True)
class Vocabulary:
    """The attributes with known words."""

    attributes: tuple[Attribute, ...]

    def find(self, name: str) -> Attribute | None:
        """Returns the vocabulary of an attribute, None where there is none."""
        name = name.casefold()
        exact = (a for a in self.attributes if a.name == name)
        return next(exact, None) or next((a for a in self.attributes if name in a.names), None)

    def get(self, name: str) -> Attribute:
        """Returns the vocabulary of an attribute, one without values where there is none."""
        return self.find(name) or Attribute(name)

    def find_attributes(self, word: str) -> Iterator[str]:
        """Yields the names of the attributes that a word is a value of."""
        for attribute in self.attributes:
            if any(value.is_called(word) for value in attribute.values):
                yield attribute.name


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Returns the expression that finds a form as whole words."""
    return re.compile(
        rf"(?<![\w-])(?:{pattern.strip().replace(' ', chr(92) + 's+')})(?![\w-])", re.IGNORECASE
    )


def load_vocabulary(files: Sequence[str | Path] = ()) -> Vocabulary:
    """Returns the vocabulary of the package; attributes in the files given replace those of the same name.

    Raises a UserError for a file that is missing or malformed.
    """
    attributes: dict[str, Attribute] = {}
    for file in [*sorted(FOLDER.glob("*.yaml")), *map(Path, files)]:
        attribute = _read_attribute(file)
        attributes[attribute.name] = attribute
    return Vocabulary(tuple(attributes.values()))


def read_yaml(file: Path) -> Any:
    """Returns the content of a YAML file; raises a UserError where it cannot be read."""
    try:
        return config.read_yaml(file)
    except (OSError, ValueError) as error:
        raise UserError(f"prompt.vocabulary: {file.absolute()} cannot be read: {error}") from error


def _read_attribute(file: Path) -> Attribute:
    content = read_yaml(file)
    try:
        attribute = Attribute(
            name=content["attribute"].casefold(),
            names=frozenset(name.casefold() for name in content.get("names", ())),
            order=int(content.get("order", 9)),
            scene=bool(content.get("scene", False)),
            uncountable=bool(content.get("uncountable", False)),
            prepositions=bool(content.get("prepositions", False)),
            indoors=str(content.get("indoors", {}).get("phrase", "")),
            rooms=tuple(content.get("indoors", {}).get("nouns", ())),
            backdrop=str(content.get("backdrop", {}).get("phrase", "")),
            scenery=tuple(content.get("backdrop", {}).get("nouns", ())),
            worn=str(content.get("worn", {}).get("phrase", "")),
            people=frozenset(content.get("worn", {}).get("nouns", ())),
            others=frozenset(content.get("others", ())),
            nouns=tuple(frozenset(group) for group in content.get("nouns", ())),
            joined=frozenset(content.get("joined", ())),
            heads={p: frozenset(nouns) for p, nouns in content.get("heads", {}).items()},
            ignore=tuple(content.get("ignore", ())),
            default=content.get("default", DEFAULT_FORMS),
            values=tuple(_read_value(str(name), value) for name, value in content["values"].items()),
        )
        for value in attribute.values:
            for pattern in (
                *attribute.ignore,
                *attribute.rooms,
                *value.contradicts,
                *(p for f in value.forms.values() for p in f),
            ):
                compile_pattern(pattern)
    except (AttributeError, KeyError, TypeError, ValueError, re.error) as error:
        raise UserError(
            f"prompt.vocabulary: {file.absolute()} is not a vocabulary ({error!r}). "
            f"{FOLDER / 'README.md'} describes its form"
        ) from error
    return attribute


def _read_value(name: str, content: Mapping[str, Any]) -> Value:
    forms = {k: tuple(v) for k, v in content.items() if k not in NO_FORMS}
    names = {name, *content.get("names", ()), *([content["iso_34503"]] if "iso_34503" in content else [])}
    before = frozenset(content.get("before", ()))
    return Value(name, frozenset(n.casefold() for n in names), forms, content.get("contradicts", {}), before)


def _put_first(name: str, form: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the patterns of a form with the one first that writes a name."""
    if any(compile_pattern(pattern).fullmatch(name) for pattern in patterns):
        return (name, *patterns)
    with_name = [
        p for p in patterns if re.fullmatch(r"[\w' -]+", p) and re.search(rf"\b{re.escape(name)}\b", p)
    ]
    return (*with_name, *(p for p in patterns if p not in with_name)) if form != "modifier" else patterns
