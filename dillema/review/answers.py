"""The answers of raters: on the disk before the page is told, and as CSV."""

import csv
import io
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..decoding import find_file_encoding
from ..errors import UserError
from ..files import write_atomically
from .items import Review

ANSWERS = "answers.db"
SCHEMA_VERSION = 1
REALISM = (1, 2, 3, 4, 5)
CHOICES = ("yes", "no", "cannot tell")
RATER_NAME = re.compile(r"\w[\w .-]{0,39}")
RATER_RULE = "begins with a letter or a digit and has at most 40 letters, digits, spaces, dots and hyphens"

CREATE = """
CREATE TABLE IF NOT EXISTS answers (
  rater TEXT NOT NULL, item INTEGER NOT NULL, real INTEGER NOT NULL, label TEXT NOT NULL, edit TEXT NOT NULL,
  seconds REAL NOT NULL, given INTEGER NOT NULL, PRIMARY KEY (rater, item)
)"""
# an answer that a page sends again late must not replace a newer one
PUT = """
INSERT INTO answers VALUES (:rater, :item, :real, :label, :edit, :seconds, :given)
ON CONFLICT DO UPDATE SET real = excluded.real, label = excluded.label, edit = excluded.edit,
  seconds = excluded.seconds, given = excluded.given WHERE excluded.given >= answers.given"""


@dataclass(frozen=True)
class Answer:
    """What a rater said about an item.

    Attributes:
        item: The number of the item in its review.
        real: How real it looks, from 1 to 5.
        label: Whether the label is still shown: yes, no, cannot tell.
        edit: Whether the edits are there: yes, no, cannot tell.
        seconds: How long the rater looked.
        given: When, in milliseconds since 1970.
    """

    rater: str
    item: int
    real: int
    label: str
    edit: str
    seconds: float
    given: int


COLUMNS = ("review", *(field.name for field in fields(Answer)))


def parse_answer(values: Mapping[str, Any], items: int) -> Answer:
    """Returns an answer from texts or JSON values; raises a UserError that says what is wrong."""
    try:
        answer = Answer(
            rater=str(values["rater"]).strip(),
            item=int(values["item"]),
            real=int(values["real"]),
            label=str(values["label"]),
            edit=str(values["edit"]),
            seconds=min(max(float(values.get("seconds") or 0), 0.0), 1e6),
            given=min(max(int(values.get("given") or 0), 0), 2**62),
        )
    except KeyError as error:
        raise UserError(f"an answer has no {error.args[0]}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"an answer cannot be read: {error}") from error
    if not RATER_NAME.fullmatch(answer.rater):
        raise UserError(f"the name of a rater {RATER_RULE}")
    if not 0 <= answer.item < items:
        raise UserError(f"there is no item {answer.item}: the review has 0 to {items - 1}")
    if answer.real not in REALISM or answer.label not in CHOICES or answer.edit not in CHOICES:
        raise UserError(f"real is from 1 to 5, label and edit are one of: {', '.join(CHOICES)}")
    return answer


@dataclass(frozen=True)
class AnswerStore:
    """The answers of a review; several processes may use it at the same time."""

    path: Path

    @classmethod
    def of(cls, review: Review) -> "AnswerStore":
        """Returns the answers of a review."""
        return cls(review.path / ANSWERS)

    def put(self, answers: Iterable[Answer]) -> int:
        """Writes answers to the disk and returns how many; all of them or none.

        The last answer of a rater for an item counts.
        """
        rows = [asdict(answer) for answer in answers]
        with self._connect() as connection:
            connection.executemany(PUT, rows)
        return len(rows)

    def all(self, rater: str | None = None) -> list[Answer]:
        """Returns the answers, or those of one rater, by rater and item."""
        if not self.path.exists():
            return []
        where = "" if rater is None else "WHERE rater = ?"
        query = f"SELECT * FROM answers {where} ORDER BY rater, item"
        with self._connect() as connection:
            return [Answer(*row) for row in connection.execute(query, () if rater is None else (rater,))]

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """Gives a connection in a transaction that is on the disk when the context ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, SCHEMA_VERSION):
                    raise UserError(
                        f"{self.path} has format {version}, this version of DILLEMA reads {SCHEMA_VERSION}"
                    )
                with connection:
                    if not version:
                        connection.execute(CREATE)
                        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                    yield connection
        except sqlite3.Error as error:
            raise UserError(f"{self.path} cannot be used: {error}") from error


def read_csv(path: Path, review: Review) -> list[Answer]:
    """Returns the answers in a CSV file that the page or this job wrote.

    Raises a UserError, with the line, for an answer that is wrong or belongs to another review.
    """
    answers = []
    try:
        with path.open(newline="", encoding=find_file_encoding(path)) as file:
            for row in (reader := csv.DictReader(file)):
                where = f"{path}, line {reader.line_num}"
                if row.get("review") != review.id:
                    raise UserError(
                        f"{where}: the answer belongs to the review {row.get('review')!r}, and "
                        f"{review.folder.path} has {review.id!r}"
                    )
                try:
                    answers.append(parse_answer(row, len(review.items)))
                except UserError as error:
                    raise UserError(f"{where}: {error}") from error
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not answers:
        raise UserError(f"{path} holds no answers")
    return answers


def write_csv(path: Path, review: Review, answers: Iterable[Answer]) -> None:
    """Writes answers as CSV, with what each item is."""
    write_atomically(path, format_csv(review, answers))


def format_csv(review: Review, answers: Iterable[Answer]) -> str:
    """Returns a CSV file of answers; names of images follow the columns that `read_csv` needs."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*COLUMNS, "kind", "image", "source"])
    for answer in answers:
        item = review.items[answer.item]
        source = review.images[item.image].source
        writer.writerow([review.id, *asdict(answer).values(), item.kind, item.image, source])
    return file.getvalue()
