"""The images of a run as the page shows them: small copies, the words beside them, and their order."""

import base64
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from ..evaluation.statistics import mean_iou
from ..pipeline import Pair
from .words import percent

EMBEDDED = 6_000_000  # bytes of small images in the page: it still fits into a mail
SHOWN = 5_000  # pairs
SIZE = (320, 320)
CHANGE = 0.05  # of an image's IoU: a smaller one is no change
CHOICES = 50  # values of an attribute that can be chosen: captions in free words have thousands


def of(pairs: Sequence[Pair], classes: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Returns what the page shows of the first pairs: what its `script` needs, as JSON, and what can be chosen."""
    shown = pairs[:SHOWN]
    addresses = _addresses(shown, folder)
    place = {image: i for i, image in enumerate(addresses)}  # an original has several counterfactuals: its address is written once
    rows: list[dict[str, Any]] = [
        {
            "id": pair.id,
            "source": pair.sample.id,
            "before": marked(pair.caption.text, (e.original for e in pair.counterfactual.edits)),
            "after": marked(pair.counterfactual.text, (e.replacement for e in pair.counterfactual.edits)),
            "edits": [[e.attribute, e.original, e.replacement] for e in pair.counterfactual.edits],
            "valid": pair.verdict.valid,
            "scores": [f"{score.replace('_', ' ')} {value:.2f}" for score, value in pair.verdict.scores.items()],
            "classes": _classes(pair, classes),
            "original": place["original", pair.sample.id],
            "controls": [[name, place["control", f"{pair.sample.id}_{name}"]] for name in pair.controls],
            "image": place["counterfactual", pair.id],
            "said": [
                {"model": model, "harm": _lost(before, after), "outcome": outcome(before, after, len(classes))}
                | {"original": said(before, classes), "counterfactual": said(after, classes)}
                for model, (before, after) in pair.said.items()
            ],
        }
        for pair in shown
    ]
    values: dict[str, Counter[str]] = {}
    for pair in shown:
        for edit in pair.counterfactual.edits:
            values.setdefault(edit.attribute, Counter())[edit.replacement] += 1
    return {
        "script": {"images": list(addresses.values()), "pairs": rows},
        "attributes": {attribute: sorted(value for value, _ in count.most_common(CHOICES)) for attribute, count in sorted(values.items())},
        "classes": [name for name in classes if any(name in row["classes"] for row in rows)],
        "outcomes": sorted({answer["outcome"] for row in rows for answer in row["said"]}),
        "models": list(dict.fromkeys(model for pair in shown for model in pair.said)),
        "size": Image.open(shown[0].image).size if shown else SIZE,
    }


def example(pairs: Iterable[Pair], model: str, row: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns the images of a valid pair with an edit, or None where there is none: with the fewest other edits, then the one on which a model lost most."""
    edit = (row["attribute"], row["from"], row["to"])
    held = [p for p in pairs if p.verdict.valid and model in p.said and edit in {(e.attribute, e.original, e.replacement) for e in p.counterfactual.edits}]
    if not held:
        return None
    pair = min(held, key=lambda p: (len(p.counterfactual.edits), -_lost(*p.said[model])))
    return {"text": pair.counterfactual.text, "original": embedded(small(pair.sample.image)), "counterfactual": embedded(small(Image.open(pair.image)))}


def harm(pair: Pair) -> float:
    """Returns how much confidence in the truth was lost, over all models."""
    return sum(_lost(before, after) for before, after in pair.said.values())


def outcome(before: Mapping[str, Any], after: Mapping[str, Any], classes: int) -> str:
    """Returns in a word what became of an answer; for segmentation by the mean IoU of the image."""
    if "predicted" in before:
        was, is_ = (record["predicted"] == record["label"] for record in (before, after))
        return ("kept" if is_ else "flipped") if was else ("corrected" if is_ else "wrong on both")
    change = _iou(after, classes) - _iou(before, classes)
    return "worse" if change < -CHANGE else "better" if change > CHANGE else "kept"


def said(record: Mapping[str, Any], classes: tuple[str, ...]) -> str:
    """Returns in a few words what a model said about an image."""
    sure = f"{percent(record['confidence'])} sure of the truth"
    if "predicted" in record:
        return f"{classes[record['predicted']]}{'' if record['predicted'] == record['label'] else ' (wrong)'}, {sure}"
    return f"IoU {percent(_iou(record, len(classes)))}, {sure}"


def marked(text: str, spans: Iterable[str]) -> list[tuple[str, bool]]:
    """Returns a text in pieces, each with whether it is one of the spans."""
    found = "|".join(re.escape(span) for span in sorted(spans, key=len, reverse=True))
    pieces = re.split(rf"(?<!\w)({found})(?!\w)", text) if found else [text]
    return [(piece, i % 2 == 1) for i, piece in enumerate(pieces) if piece]


def small(image: Image.Image) -> bytes:
    """Returns the file of a small copy of an image."""
    copy = image.convert("RGB")
    copy.thumbnail(SIZE)
    file = io.BytesIO()
    copy.save(file, "JPEG", quality=85)  # a tenth of the time that WebP takes, for half as much again
    return file.getvalue()


def embedded(content: bytes) -> str:
    """Returns an address that holds an image."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def _addresses(pairs: Iterable[Pair], folder: Path) -> dict[tuple[str, str], str]:
    """Returns where the page finds the images of pairs, by kind and id: in itself as long as there is room, then in report/."""
    wanted: dict[tuple[str, str], Callable[[], Image.Image]] = {}
    for pair in pairs:
        wanted.setdefault(("original", pair.sample.id), partial(getattr, pair.sample, "image"))
        for name, path in pair.controls.items():
            wanted.setdefault(("control", f"{pair.sample.id}_{name}"), partial(Image.open, path))
        wanted["counterfactual", pair.id] = partial(Image.open, pair.image)
    addresses, room = {}, EMBEDDED
    with ThreadPoolExecutor() as pool:
        for (kind, name), content in zip(wanted, pool.map(lambda opened: small(opened()), wanted.values()), strict=True):
            room -= len(content)
            if room >= 0:
                addresses[kind, name] = embedded(content)
                continue
            path = folder / "report" / kind / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            addresses[kind, name] = quote(f"report/{kind}/{path.name}")
    return addresses


def _classes(pair: Pair, classes: tuple[str, ...]) -> list[str]:
    if pair.sample.label is not None:
        return [classes[pair.sample.label]]
    return [classes[i] for i in sorted({true for before, _ in pair.said.values() for true, _, _ in before["confusion"]})]


def _lost(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    lost = (before["confidence"] or 0) - (after["confidence"] or 0)
    return round(lost, 4) if math.isfinite(lost) else 0.0


def _iou(record: Mapping[str, Any], classes: int) -> float:
    matrix = np.zeros((classes, classes))
    for true, predicted, pixels in record["confusion"]:
        matrix[true, predicted] = pixels
    return float(np.nan_to_num(mean_iou(matrix)))
