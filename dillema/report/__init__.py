"""The page that a person reads."""

import base64
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..pipeline import Pair, Run
from ..types import Dataset

SHOWN = 60  # sources in the gallery: at some 50 kB each, the page stays one file that opens at once
THUMBNAIL = (320, 320)


def write(run: Run, dataset: Dataset, folder: Path) -> None:
    """Writes report.html: one file that needs no other."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("dillema", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.globals.update(verdict=verdict, percent=percent, marked=marked, said=said)
    sources: dict[str, list[Pair]] = {}
    for pair in run.pairs:
        sources.setdefault(pair.sample.id, []).append(pair)
    worst = sorted(sources.values(), key=lambda pairs: max(map(harm, pairs)), reverse=True)[:SHOWN]
    page = pages.get_template("report.html.j2").render(
        results=run.results,
        failures=run.failures,
        classes=dataset.classes,
        gallery_left=len(sources) - len(worst),
        gallery=({"pairs": pairs, "original": thumbnail(pairs[0].sample.image), "controls": pairs[0].controls} for pairs in worst),
        thumbnail=thumbnail,
        name=folder.name,
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def verdict(model: str, figures: Mapping[str, Any]) -> str:
    """Returns in one sentence what a run found out about a model."""
    if figures.get("drop") is None:
        return f"No counterfactual is valid, so nothing can be said about {model}."
    metric, drop, low, high = figures["metric"].replace("_", " ").replace("iou", "IoU"), figures["drop"], figures["low"], figures["high"]
    basis = f"on {figures['images']} valid counterfactuals of {figures['sources']} sources"
    if low is None:
        return f"{model} {'loses' if drop >= 0 else 'gains'} {abs(100 * drop):.1f} points of {metric} {basis}: too few sources for an interval."
    interval = f"({100 * figures['level']:.0f} % interval: {100 * low:.1f} to {100 * high:.1f} points lost)"
    if low <= 0 <= high:
        return f"{model} shows no change of {metric} that can be told from chance {basis} {interval}."
    return f"{model} {'loses' if drop > 0 else 'gains'} {abs(100 * drop):.1f} points of {metric} {basis} {interval}."


def percent(share: float | None) -> str:
    """Returns a share as a person reads it."""
    return "-" if share is None else f"{100 * share:.1f} %"


def harm(pair: Pair) -> float:
    """Returns how much confidence in the truth was lost, over all models."""
    return sum((before["confidence"] or 0) - (after["confidence"] or 0) for before, after in pair.said.values())


def said(record: Mapping[str, Any], classes: tuple[str, ...]) -> str:
    """Returns in a few words what a model said about an image."""
    sure = percent(record["confidence"])
    return f"{classes[record['predicted']]} (truth: {sure})" if "predicted" in record else f"{sure} of the truth"


def marked(text: str, spans: Iterable[str]) -> list[tuple[str, bool]]:
    """Returns a text in pieces, each with whether it is one of the spans."""
    found = "|".join(re.escape(span) for span in sorted(spans, key=len, reverse=True))
    pieces = re.split(rf"(?<!\w)({found})(?!\w)", text) if found else [text]
    return [(piece, i % 2 == 1) for i, piece in enumerate(pieces) if piece]


def thumbnail(picture: Image.Image | Path) -> str:
    """Returns a small copy of an image as an address that holds it."""
    image = Image.open(picture) if isinstance(picture, Path) else picture
    small = image.convert("RGB")
    small.thumbnail(THUMBNAIL)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
