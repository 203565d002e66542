"""The table of classes: name, id, colour, and whether a class is scored."""

import colorsys
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..decoding import Colour, decode_mask, list_colours, list_ids, read_text
from ..errors import ItemError, UserError
from .files import Read, make_printable, normalise

COLUMNS = ("name", "id", "colour", "ignore")
MASKS_TO_LOOK_AT = 24
_FIRST_LINE = "the first line should be name,id,colour,ignore, each other line one class"
_YES = ("yes", "true", "1")
_NO = ("", "no", "false", "0")
_HEX = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class Classes:
    """`names[i]` and `colours[i]` belong to class id i; ids in `ignored` are not scored.

    An ignored id may have no name. `mask_colours` has the class id of each colour, without colours that
    several classes share. `columns` are those of the file, in its order.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    ignored: frozenset[int] = frozenset()
    mask_colours: Mapping[Colour, int] = field(default_factory=dict)
    columns: tuple[str, ...] = COLUMNS

    def find_ids(self, names: Sequence[str], where: str) -> dict[str, int]:
        """Returns the id of each name; accepts the original and the readable form (`make_readable`).

        Raises a UserError for names that are no class.
        """
        index = {name: i for i, name in enumerate(self.names)}
        ids = {
            name: index.get(normalise(name), index.get(written))
            for name, written in zip(names, make_readable(names, where), strict=True)
        }
        if unknown := [make_printable(name) for name, i in ids.items() if i is None]:
            raise UserError(
                f"{where} has classes that dataset.classes_file does not name: {', '.join(unknown[:5])}. "
                "Add them there, or move their images away"
            )
        return {name: i for name, i in ids.items() if i is not None}


class HasClasses:
    """The properties of a data set that describe its classes, from the table `_table_of_classes`."""

    @cached_property
    def _table_of_classes(self) -> Classes:
        raise NotImplementedError

    @property
    def classes(self) -> tuple[str, ...]:
        """Returns the names of the classes, by id."""
        return self._table_of_classes.names

    @property
    def colours(self) -> tuple[Colour, ...]:
        """Returns the colours of the classes, by id; empty without a classes file that has them."""
        return self._table_of_classes.colours

    @property
    def ignored(self) -> frozenset[int]:
        """Returns the ids that are not scored."""
        return self._table_of_classes.ignored

    @property
    def class_columns(self) -> tuple[str, ...]:
        """Returns the columns of the classes file, in its order."""
        return self._table_of_classes.columns


def read_classes(path: str) -> Classes:
    """Returns the classes of a CSV file with the columns name, id, colour (#8040a0) and ignore (yes or none).

    Only `name` is required: a class without `id` has the number of its row, from 0; without the column
    `colour` the classes have none.
    Raises a UserError that names the wrong line.
    """
    source = f"dataset.classes_file={path}"
    names: dict[int, str] = {}
    colours: dict[int, Colour] = {}
    ignored = set()
    columns: tuple[str, ...] = COLUMNS
    for index, (where, row) in enumerate(_read_rows(path, source)):
        if not row.get("name"):
            raise UserError(f"{where} names no class: {_FIRST_LINE}")
        columns = tuple(row)
        class_id = row.get("id") or str(index)
        if not class_id.isdecimal() or int(class_id) > 255 or int(class_id) in names:
            raise UserError(
                f"{where}: the id {class_id!r} should be a number from 0 to 255 that no other class has"
            )
        names[int(class_id)] = normalise(row["name"])
        if "colour" in row:
            if not _HEX.fullmatch(row["colour"]):
                raise UserError(
                    f"{where}: the colour {row['colour']!r} should be red, green and blue like #804080"
                )
            red, green, blue = bytes.fromhex(row["colour"][1:])
            colours[int(class_id)] = (red, green, blue)
        word = row.get("ignore", "").lower()
        if word not in _YES + _NO:
            raise UserError(
                f"{where}: the word {row['ignore']!r} in the column ignore should be yes, or nothing"
            )
        if word in _YES:
            ignored.add(int(class_id))
    count = next(i for i in range(257) if i not in names)
    if beyond := sorted(names.keys() - set(range(count)) - ignored):
        raise UserError(
            f"{source}: there is no class {count}, but a class {beyond[0]}; only ignored classes may leave a "
            "gap"
        )
    if not count:
        raise UserError(f"{source} holds no class: {_FIRST_LINE}")
    listed = tuple(names[i] for i in range(count))
    make_readable(listed, source)  # raises an error for two equal readable names
    listed_colours = tuple(colours[i] for i in range(count) if colours)
    return Classes(listed, listed_colours, frozenset(ignored), _invert_colours(colours, ignored), columns)


def make_readable(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Returns readable names: without underscores, and only the first of several synonyms.

    All synonyms are kept if another class has the same first one. Raises a UserError for two equal readable
    names.
    """
    full_names = [" ".join(make_printable(name).replace("_", " ").split()) for name in names]
    first = [name.partition(",")[0] for name in full_names]
    count = Counter(first)
    readable = tuple(
        short if count[short] == 1 else name for short, name in zip(first, full_names, strict=True)
    )
    for name, times in Counter(readable).items():
        if times > 1:
            equal_names = [
                repr(make_printable(n)) for n, written in zip(names, readable, strict=True) if written == name
            ]
            raise UserError(
                f"{where}: the classes {' and '.join(equal_names)} read the same: rename or join them"
            )
    return readable


def sort_names(names: Sequence[str]) -> list[str]:
    """Returns sorted names: sorted as numbers if all are numbers, otherwise as text."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def read_classes_of_masks(path: str | None, list_masks: Callable[[], Sequence[Read]]) -> Classes:
    """Returns the classes of a file.

    Raises a UserError if there is none (with a draft that fits the masks), or if it has no colours.
    """
    if path is None:
        draft = draft_classes(list_masks())
        example = f", for example (edit the names):\n{draft}" if draft else ""
        raise UserError(
            "masks hold numbers: save what they mean as classes.csv in dataset.root, or name another file as "
            f"dataset.classes_file. It is a CSV file with the columns name, id, colour and ignore{example}"
        )
    classes = read_classes(path)
    if not classes.colours:
        raise UserError(
            f"dataset.classes_file={path} needs a column colour with values like #804080, for there are "
            "masks to paint"
        )
    return classes


def _read_rows(path: str, source: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the position of each row, for messages, and its cells by column."""
    reader = csv.reader(
        io.StringIO(read_text(Path(path).expanduser(), "dataset.classes_file")), skipinitialspace=True
    )
    columns: list[str] = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            where = f"{source}, line {reader.line_num}"
            if not any(stripped):
                continue
            if not columns:
                columns = [cell.lower() for cell in stripped]
                unknown = [cell for cell in columns if cell not in COLUMNS]
                if unknown or "name" not in columns:
                    raise UserError(
                        f"{where} has the columns {', '.join(columns)}: {_FIRST_LINE}, separated by commas"
                    )
            elif len(stripped) > len(columns):
                raise UserError(
                    f"{where} has {len(stripped)} cells for {len(columns)} columns: put names with commas in "
                    "quotes"
                )
            else:
                missing = [""] * (len(columns) - len(stripped))
                yield where, dict(zip(columns, stripped + missing, strict=True))
    except csv.Error as error:
        raise UserError(f"{source}, line {reader.line_num} cannot be read: {error}") from error


def _invert_colours(colours: Mapping[int, Colour], ignored: set[int]) -> dict[Colour, int]:
    """Returns the class id of each colour, without colours of several classes, unless all are ignored."""
    ids_by_colour: dict[Colour, list[int]] = {}
    for class_id, colour in colours.items():
        ids_by_colour.setdefault(colour, []).append(class_id)
    return {colour: ids[0] for colour, ids in ids_by_colour.items() if len(ids) == 1 or set(ids) <= ignored}


def draft_classes(masks: Sequence[Read]) -> str:
    """Returns a draft of a classes file from the content of the first masks; "" if none is readable."""
    ids, colours = _find_values(masks)
    if not ids:
        return ""
    if colours or ids == {0, 255}:
        found_colours = sorted(colours or {(0, 0, 0), (255, 255, 255)})[:256]
        lines = [f"class {i},{i},#{bytes(colour).hex()}," for i, colour in enumerate(found_colours)]
    else:
        lines = [f"class {i},{i},{_choose_colour(i)}," for i in range(max(ids - {255}, default=0) + 1)]
        lines += ["void,255,#000000,yes"] if 255 in ids else []
    return "\n".join(["name,id,colour,ignore", *lines])


def count_values(masks: Sequence[Read]) -> int:
    """Returns how many ids or colours the first masks hold."""
    ids, colours = _find_values(masks)
    return len(colours or ids)


def _find_values(masks: Sequence[Read]) -> tuple[set[int], set[Colour]]:
    """Returns the ids of the first masks, and their colours if they are painted in colours."""
    ids: set[int] = set()
    colours: set[Colour] = set()
    for read_mask in masks[:MASKS_TO_LOOK_AT]:
        try:
            content = read_mask()
            ids |= set(list_ids(decode_mask(content)))
            colours |= set(list_colours(content))
        except (ItemError, OSError):  # one readable mask is enough
            continue
    return ids, colours


def _choose_colour(class_id: int) -> str:
    """Returns a colour that differs from those of the ids around it."""
    channels = colorsys.hsv_to_rgb(class_id * 0.618 % 1, 0.7, 0.9)
    return "#" + bytes(round(255 * channel) for channel in channels).hex()
