"""Classes as a table: what each is called, its id, its colour, and whether it is scored."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import UserError

_HEX = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class Classes:
    """`names[i]` and `colours[i]` are those of class id i; ids in `ignored` are not scored, and may lie beyond the names."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = ()
    ignored: frozenset[int] = frozenset()

    def ids(self, names: Sequence[str], holder: str) -> dict[str, int]:
        """Returns the id of each name, found as it is or as people write it (`readable`); raises a UserError for names of no class."""
        index = {name: i for i, name in enumerate(self.names)}
        found = {name: index.get(name, index.get(written)) for name, written in zip(names, readable(names), strict=True)}
        if unknown := [name for name, i in found.items() if i is None]:
            raise UserError(f"{holder} has classes that dataset.classes_file does not name: {', '.join(unknown[:5])}")
        return {name: i for name, i in found.items() if i is not None}


class Classed:
    """What a data set says of its classes, from its table of them."""

    @cached_property
    def _known(self) -> Classes:
        raise NotImplementedError

    @property
    def classes(self) -> tuple[str, ...]:
        """Returns the names of the classes, by id."""
        return self._known.names

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """Returns the colours of the classes, by id; none where no file of classes gives them."""
        return self._known.colours

    @property
    def ignored(self) -> frozenset[int]:
        """Returns the ids that are not scored."""
        return self._known.ignored


def read_classes(path: str) -> Classes:
    """Returns the classes of a CSV file with the columns name, id, colour (#8040a0) and ignore (yes, or empty).

    Only `name` must be there: without `id` the classes count from 0, without `colour` there are none.
    Raises a UserError that names the line at fault.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin their files with a mark
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"dataset.classes_file={path} cannot be read: {error}") from error
    known: dict[int, str] = {}
    colours: dict[int, tuple[int, int, int]] = {}
    ignored = set()
    for number, row in enumerate(rows):
        where = f"dataset.classes_file={path}, line {number + 2}"
        if not row.get("name"):
            raise UserError(f"{where} names no class: the first line should be name,id,colour,ignore and each of the others begin with a name")
        given = row.get("id", str(number)) or ""
        if not given.isdecimal() or int(given) > 255 or int(given) in known:
            raise UserError(f"{where}: the id {given!r} should be a number from 0 to 255 that no other class has")
        known[int(given)] = row["name"]
        if "colour" in row:
            if not _HEX.fullmatch(row["colour"] or ""):
                raise UserError(f"{where}: the colour {row['colour']!r} should be red, green and blue like #804080")
            red, green, blue = bytes.fromhex(row["colour"][1:])
            colours[int(given)] = (red, green, blue)
        if (row.get("ignore") or "").lower() in ("yes", "true", "1"):
            ignored.add(int(given))
    count = next(i for i in range(257) if i not in known)
    if beyond := sorted(known.keys() - set(range(count)) - ignored):
        raise UserError(f"dataset.classes_file={path}: there is no class {count}, but a class {beyond[0]}; only ignored classes may leave a gap")
    if not count:
        raise UserError(f"dataset.classes_file={path} holds no class: its first line should be name,id,colour,ignore, each other line one class")
    return Classes(tuple(known[i] for i in range(count)), tuple(colours[i] for i in range(count) if colours), frozenset(ignored))


def readable(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names as people write them: the first of several synonyms where no other class has it, and no underscores."""
    short = [name.partition(",")[0].replace("_", " ") for name in names]
    count = Counter(short)
    return tuple(s if count[s] == 1 else name.replace("_", " ") for s, name in zip(short, names, strict=True))
