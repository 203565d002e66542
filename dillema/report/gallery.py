"""The images of a run as the page shows them: small copies, the words beside them, and their order."""

import base64
import io
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from ..evaluation.predictions import COUNTERFACTUAL, ORIGINAL, Predictions, mistakes
from ..evaluation.statistics import metric
from ..pairs import Pair
from ..pipeline import Run
from ..types import Dataset, Edit, Sample
from .words import percent

EMBEDDED = 6_000_000  # bytes of small images in the page: it still fits into a mail
SHOWN = 5_000  # pairs
SIZE = (320, 320)
CHANGE = 0.05  # of an image's IoU: a smaller one is no change
CHOICES = 50  # values of an attribute that can be chosen: captions in free words have thousands


@dataclass(frozen=True)
class Answer:
    """What a model said about an image.

    `confidence` is that in the true class, None where nothing is scored; `label` and `predicted` are class ids
    (classification), `iou` is the mean over the classes of the image, whose ids are `classes`, and `mistakes` the file of an
    image of where it is wrong (segmentation).
    """

    confidence: float | None
    label: int | None = None
    predicted: int | None = None
    iou: float = 0.0
    classes: tuple[int, ...] = ()
    mistakes: bytes = b""


@dataclass(frozen=True)
class Shown:
    """A pair, and by model what was said about the original and about the counterfactual."""

    pair: Pair
    said: Mapping[str, tuple[Answer, Answer]]


def chosen(run: Run, dataset: Dataset) -> list[Shown]:
    """Returns the SHOWN pairs that come first: valid ones, then those on which most confidence in the truth was lost, over all models."""
    harm: Counter[str] = Counter()
    for said in run.answers.values():
        before, after = said.pairs()
        less = np.nan_to_num(said.confidence[before]) - np.nan_to_num(said.confidence[after])
        harm.update(dict(zip(said.image[after].tolist(), less.tolist(), strict=True)))
    first = nlargest(SHOWN, run.pairs, key=lambda pair: (pair.verdict.valid, harm[pair.id]))
    answers = {model: _answers(model, said, {pair.id for pair in first}, dataset) for model, said in run.answers.items()}
    return [Shown(pair, {model: found[pair.id] for model, found in answers.items() if pair.id in found}) for pair in first]


def of(shown: Sequence[Shown], dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Returns what the page shows of pairs: what its `script` needs, as JSON, what can be chosen, and the colours of mistakes (`legend`)."""
    classes, pairs = dataset.classes, [each.pair for each in shown]
    models = {model: number for number, model in enumerate(dict.fromkeys(model for each in shown for model in each.said))}
    addresses = _addresses(shown, models, folder)
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
            "classes": _classes(pair, answers, classes),
            "original": place["original", pair.sample.id],
            "controls": [[name, place["control", f"{pair.sample.id}_{name}"]] for name in pair.controls],
            "image": place["counterfactual", pair.id],
            "said": [
                {"model": model, "harm": lost(before, after), "outcome": outcome(before, after)}
                | {"original": said(before, classes), "counterfactual": said(after, classes)}
                | {"mistakes": [place.get(key) for key in _painted(pair, models[model])]}
                for model, (before, after) in answers.items()
            ],
        }
        for pair, answers in ((each.pair, each.said) for each in shown)
    ]
    values: dict[str, Counter[str]] = {}
    for pair in pairs:
        for edit in pair.counterfactual.edits:
            values.setdefault(edit.attribute, Counter())[edit.replacement] += 1
    present = [name for name in classes if any(name in row["classes"] for row in rows)]
    colours = (
        {name: f"rgb{tuple(colour)}" for name, colour in zip(classes, dataset.colours, strict=False)}
        if any(kind == "mistakes" for kind, _ in addresses)
        else {}
    )
    return {
        "script": {"images": list(addresses.values()), "pairs": rows},
        "attributes": {attribute: sorted(value for value, _ in count.most_common(CHOICES)) for attribute, count in sorted(values.items())},
        "classes": present,
        "legend": [(name, colours[name]) for name in present if name in colours],
        "outcomes": sorted({answer["outcome"] for row in rows for answer in row["said"]}),
        "models": list(models),
        "size": Image.open(pairs[0].image).size if pairs else SIZE,
    }


def example(shown: Iterable[Shown], model: str, row: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns the images of a valid pair with an edit, or None where there is none: with the fewest other edits, then the one on which a model lost most."""
    edit = Edit(row["attribute"], row["from"], row["to"])
    held = [each for each in shown if each.pair.verdict.valid and model in each.said and edit in each.pair.counterfactual.edits]
    if not held:
        return None
    pair = min(held, key=lambda each: (len(each.pair.counterfactual.edits), -lost(*each.said[model]))).pair
    return {"text": pair.counterfactual.text, "original": embedded(small(pair.sample.image)), "counterfactual": embedded(small(Image.open(pair.image)))}


def lost(before: Answer, after: Answer) -> float:
    """Returns how much confidence in the truth an answer lost."""
    return round((before.confidence or 0) - (after.confidence or 0), 4)


def outcome(before: Answer, after: Answer) -> str:
    """Returns in a word what became of an answer; for segmentation by the mean IoU of the image."""
    if before.label is not None:
        was, is_ = (answer.predicted == answer.label for answer in (before, after))
        return ("kept" if is_ else "flipped") if was else ("corrected" if is_ else "wrong on both")
    change = after.iou - before.iou
    return "worse" if change < -CHANGE else "better" if change > CHANGE else "kept"


def said(answer: Answer, classes: tuple[str, ...]) -> str:
    """Returns in a few words what a model said about an image."""
    sure = percent(answer.confidence)
    if answer.predicted is None or answer.label is None:
        return f"IoU {percent(answer.iou)}, {sure} sure of the truth"
    return (
        f"{classes[answer.predicted]}, {sure} sure"
        if answer.predicted == answer.label
        else f"{classes[answer.predicted]} (wrong), {sure} sure of {classes[answer.label]}"
    )


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
    return f"data:image/{_kind(content)};base64," + base64.b64encode(content).decode()


def _kind(content: bytes) -> str:
    return "png" if content.startswith(b"\x89PNG") else "jpeg"


def _painted(pair: Pair, number: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """Returns how the images of a model's mistakes are called: in the original and in the counterfactual."""
    return ("mistakes original", f"{pair.sample.id}_{number}"), ("mistakes", f"{pair.id}_{number}")


def _addresses(shown: Iterable[Shown], models: Mapping[str, int], folder: Path) -> dict[tuple[str, str], str]:
    """Returns where the page finds the images of pairs, by kind and id: in itself as long as there is room, then in report/."""
    wanted: dict[tuple[str, str], Callable[[], bytes]] = {}
    for pair, answers in ((each.pair, each.said) for each in shown):
        wanted.setdefault(("original", pair.sample.id), partial(_copied, pair.sample))
        for name, path in pair.controls.items():
            wanted.setdefault(("control", f"{pair.sample.id}_{name}"), partial(_copied, path))
        wanted["counterfactual", pair.id] = partial(_copied, pair.image)
        for model, both in answers.items():
            for key, answer in zip(_painted(pair, models[model]), both, strict=True):
                if answer.mistakes:
                    wanted.setdefault(key, partial(bytes, answer.mistakes))
    addresses, room = {}, EMBEDDED
    with ThreadPoolExecutor() as pool:
        for (kind, name), content in zip(wanted, pool.map(lambda made: made(), wanted.values()), strict=True):
            room -= len(content)
            if room >= 0:
                addresses[kind, name] = embedded(content)
                continue
            path = folder / "report" / kind / f"{name}.{_kind(content)}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            addresses[kind, name] = quote(f"report/{kind}/{path.name}")
    return addresses


def _copied(source: Sample | Path) -> bytes:
    return small(Image.open(source) if isinstance(source, Path) else source.image)


def _answers(model: str, said: Predictions, images: Container[str], dataset: Dataset) -> dict[str, tuple[Answer, Answer]]:
    """Returns what a model said about some counterfactuals, and before that about their originals, by image."""
    before, after = said.pairs()
    some = np.array([image in images for image in said.image[after].tolist()], bool)
    names = {*said.image[before[some]], *said.image[after[some]]}
    wrong = mistakes(said.path, model, names) if dataset.task == "segmentation" else {}
    sides = []
    for kind, rows in ((ORIGINAL, before[some]), (COUNTERFACTUAL, after[some])):
        sure = [None if np.isnan(c) else c for c in said.confidence[rows].tolist()]
        if dataset.task == "classification":
            sides.append([Answer(*answer) for answer in zip(sure, said.label[rows].tolist(), said.predicted[rows].tolist(), strict=True)])
        else:
            ious, true = np.nan_to_num(metric(said.tallies[rows], dataset)).tolist(), said.tallies[rows, said.classes : 2 * said.classes] > 0
            files = [base64.b64decode(wrong[kind, image] or "") for image in said.image[rows].tolist()]
            present = [tuple(np.flatnonzero(row).tolist()) for row in true]
            sides.append([Answer(c, None, None, *rest) for c, *rest in zip(sure, ious, present, files, strict=True)])
    return dict(zip(said.image[after[some]].tolist(), zip(*sides, strict=True), strict=True))


def _classes(pair: Pair, answers: Mapping[str, tuple[Answer, Answer]], classes: tuple[str, ...]) -> list[str]:
    if pair.sample.label is not None:
        return [classes[pair.sample.label]]
    return [classes[i] for i in sorted({i for before, _ in answers.values() for i in before.classes})]
