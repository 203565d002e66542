"""The page on which raters judge: served, or as one file."""

import base64
import hashlib
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import report
from ..decoding import read_saved_image
from ..report.gallery import mark_spans
from ..run_folder import is_checked
from ..task import get_task
from .items import Review

if TYPE_CHECKING:
    from jinja2 import Template

FILE_SIZE = (768, 768)  # of images in the page that is one file, at most
FILE_QUALITY = 92  # of JPEG: its traces must not be taken for those of a generator


def render_page(review: Review, embedded: bool = False) -> str:
    """Returns the page; with `embedded` one that holds all images and saves the answers as CSV."""
    folder = Path(__file__).parent
    script = (folder / "review.js").read_text(encoding="utf-8")
    style = (Path(report.__file__).parent / "style.css").read_text(encoding="utf-8")
    style += (folder / "review.css").read_text(encoding="utf-8")
    data = {
        "review": review.id,
        "embedded": embedded,
        "masks": bool(describe_label(review, 0)),
        "items": [_describe(review, number, embedded) for number in range(len(review.items))],
    }
    return _template().render(
        data=data,
        checked=is_checked(review.folder.results),
        gates=review.folder.results["gates"],
        script=script,
        style=style,
        policy=f"default-src 'none'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
        f"form-action 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'",
    )


def describe_label(review: Review, number: int) -> dict[str, Any]:
    """Returns the picture of an item's label, as the address of an image, and its classes with colours.

    Empty for a label without places.
    """
    image, labels = review.images[review.items[number].image], review.folder.labels
    drawn = get_task(labels.task).draw_label(image.label, review.folder.path / "generated", labels)
    if drawn is None:
        return {}
    picture, classes = drawn
    legend = [[labels.classes[i], f"rgb({', '.join(map(str, labels.colours[i]))})"] for i in classes]
    return {"picture": _address("png", picture), "legend": legend}


def _describe(review: Review, number: int, embedded: bool) -> dict[str, Any]:
    """Returns what the page shows of an item, without what it is: raters do not know controls."""
    image, labels = review.images[review.items[number].image], review.folder.labels
    counterfactual = image.counterfactual
    item: dict[str, Any] = {
        "text": mark_spans(counterfactual.text, (edit.words for edit in counterfactual.edits)),
        "edits": [[edit.attribute, edit.original, edit.replacement] for edit in counterfactual.edits],
        "question": get_task(labels.task).label_question(image.label, labels),
    }
    if embedded:
        files = (review.original_file(number), review.shown_file(number))
        item["files"] = [_embed(file) for file in files]
        item["label"] = describe_label(review, number)
    return item


def _embed(path: Path) -> str:
    copy = read_saved_image(path)
    copy.thumbnail(FILE_SIZE)
    file = io.BytesIO()
    copy.save(file, "JPEG", quality=FILE_QUALITY, subsampling=0)
    return _address("jpeg", file.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("dillema", "review"), autoescape=True, undefined=StrictUndefined)
    return pages.get_template("page.html.j2")
