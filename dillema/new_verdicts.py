"""Other verdicts for the images of a file of predictions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .predictions import (
    ROWS_PER_WRITE,
    SCORE_PREFIX,
    UNCHECKED,
    open_file,
    open_writer,
    readable,
    score_names,
    whole_file,
)
from .types import Verdict

if TYPE_CHECKING:
    import pyarrow as pa


@readable
def judge(
    path: Path,
    target: Path,
    judge_image: Callable[[str, Mapping[str, float]], Verdict],
    new_scores: Sequence[str] = (),
) -> None:
    """Writes a copy of a file with other verdicts; `path` and `target` may be the same.

    `judge_image` gets the name of an image and its scores by "<gate>.<score>", without missing ones. It is
    called once an image. Its verdict also has the values of `new_scores`, which are those of whole gates;
    scores that the file has of these gates are replaced.
    """
    import pyarrow as pa

    file = open_file(path)
    replaced = {name.partition(".")[0] for name in new_scores}
    names = score_names(path)
    schema = _replace_scores(file.schema_arrow, replaced, new_scores)
    verdicts: dict[str, Verdict] = {}
    with whole_file(target) as temporary, open_writer(temporary, schema) as writer:
        for batch in file.iter_batches(ROWS_PER_WRITE):
            images, kinds = (batch[name].to_pylist() for name in ("image", "kind"))
            scores = [batch[f"{SCORE_PREFIX}{name}"].to_pylist() for name in names]
            judged = []
            for i, (image, kind) in enumerate(zip(images, kinds, strict=True)):
                if kind in UNCHECKED:
                    judged.append(Verdict())
                    continue
                if image not in verdicts:
                    values = zip(names, (column[i] for column in scores), strict=True)
                    verdicts[image] = judge_image(
                        image, {name: value for name, value in values if value is not None}
                    )
                judged.append(verdicts[image])
            changed = {
                "valid": [verdict.valid for verdict in judged],
                "reasons": [verdict.reasons for verdict in judged],
            }
            changed |= {
                f"{SCORE_PREFIX}{name}": [verdict.scores.get(name) for verdict in judged]
                for name in new_scores
            }
            columns = [
                pa.array(changed[field.name], field.type) if field.name in changed else batch[field.name]
                for field in schema
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _replace_scores(schema: "pa.Schema", replaced: Collection[str], new_scores: Sequence[str]) -> "pa.Schema":
    """Returns a schema with new columns of scores in place of those of some gates."""
    import pyarrow as pa

    kept = [
        field
        for field in schema
        if field.name.removeprefix(SCORE_PREFIX).partition(".")[0] not in replaced
        or not field.name.startswith(SCORE_PREFIX)
    ]
    position = next(i for i, field in enumerate(kept) if field.name == "confidence")  # follows the scores
    added = [pa.field(f"{SCORE_PREFIX}{name}", pa.float64()) for name in new_scores]
    return pa.schema([*kept[:position], *added, *kept[position:]], schema.metadata)
