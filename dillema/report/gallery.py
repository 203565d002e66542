"""The generated images as the page shows them: which ones, in which order, with what beside them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..backend import CLASS_SCORE
from ..decoding import read_saved_size
from ..predictions import Predictions, error_maps
from ..run_folder import RunFolder, StoredImage
from ..task import Answer, get_task
from ..types import COUNTERFACTUAL, ORIGINAL
from .thumbnails import SIZE, embed, place_pictures, read_small_copy
from .words import name_edit

SHOWN_IMAGES = 2_000  # more make a page that browsers are slow to open
REJECTED_EXAMPLES = 6
FILTER_VALUES = 50  # of an attribute: captions in free words have thousands


@dataclass(frozen=True)
class ShownImage:
    """A generated image, and by model what was answered about its original and about it."""

    image: StoredImage
    answers: Mapping[str, tuple[Answer, Answer]]


def choose_images(folder: RunFolder, predictions: Mapping[str, Predictions]) -> list[ShownImage]:
    """Returns the generated images to show: valid ones first, then by the confidence that all models lost."""
    loss: Counter[str] = Counter()
    for part in predictions.values():
        before, after = part.pairs()
        lost = np.nan_to_num(part.confidence[before]) - np.nan_to_num(part.confidence[after])
        loss.update(dict(zip(part.image[after].tolist(), lost.tolist(), strict=True)))
    images = nlargest(
        SHOWN_IMAGES, folder.generated(), key=lambda image: (image.verdict.valid, loss[image.id])
    )
    ids = {image.id for image in images}
    answers = {model: _read_answers(part, ids) for model, part in predictions.items()}
    return [
        ShownImage(
            image,
            {
                model: answers_by_image[image.id]
                for model, answers_by_image in answers.items()
                if image.id in answers_by_image
            },
        )
        for image in images
    ]


def build_gallery(shown: Sequence[ShownImage], folder: RunFolder) -> dict[str, Any]:
    """Returns what the page shows of images: `script` is for its script (JSON), the rest for its filters."""
    classes = folder.labels.classes
    placebos = {image.source: image for image in folder.placebos()}
    pictures = _list_pictures(shown, folder, placebos)
    addresses = place_pictures(folder.path, pictures)
    numbers = {
        name: number for number, name in enumerate(addresses)
    }  # an original has several counterfactuals
    rows = [_describe(shown_image, folder, numbers) for shown_image in shown]
    present = [name for name in classes if any(name in row["classes"] for row in rows)]
    has_error_maps = any(name.startswith("error_maps/") for name in pictures)
    colours = dict(zip(classes, folder.labels.colours, strict=False)) if has_error_maps else {}
    return {
        "script": {"images": list(addresses.values()), "rows": rows},
        "attributes": _filter_values(shown_image.image for shown_image in shown),
        "classes": present,
        "legend": [(name, f"rgb{tuple(colours[name])}") for name in present if name in colours],
        "outcomes": sorted({answer["outcome"] for row in rows for answer in row["answers"]}),
        "models": list(dict.fromkeys(model for shown_image in shown for model in shown_image.answers)),
        "size": read_saved_size(shown[0].image.path) if shown else SIZE,
    }


def find_example(
    shown: Iterable[ShownImage], model: str, row: Mapping[str, Any], folder: RunFolder, used: set[str]
) -> dict[str, Any] | None:
    """Returns the pictures of an image with a new value, None where there is none that is not used already.

    It is the valid image with the fewest other edits and, of these, the one on which the model lost most
    confidence.
    """
    value = (row["attribute"], row["to"])
    candidates = [
        each
        for each in shown
        if each.image.verdict.valid
        and model in each.answers
        and each.image.id not in used
        and value in {(edit.attribute, edit.replacement) for edit in each.image.counterfactual.edits}
    ]
    if not candidates:
        return None
    best = min(
        candidates,
        key=lambda shown_image: (
            len(shown_image.image.counterfactual.edits),
            -lost_confidence(*shown_image.answers[model]),
        ),
    )
    used.add(best.image.id)
    edits = [(edit.attribute, edit.replacement) for edit in best.image.counterfactual.edits]
    others = [name_edit({"attribute": edit[0], "to": edit[1]}) for edit in edits if edit != value]
    return _embed_both(best.image, folder) | {"others": others}


def find_rejected(folder: RunFolder) -> list[dict[str, Any]]:
    """Returns the pictures of some rejected images with edits and reasons, different gates first."""
    first_by_gates: dict[frozenset[str], StoredImage] = {}
    others: list[StoredImage] = []
    for image in folder.generated():
        gates = frozenset(reason.partition(":")[0] for reason in image.verdict.reasons)
        if gates and first_by_gates.setdefault(gates, image) is not image and len(others) < REJECTED_EXAMPLES:
            others.append(image)
    chosen = [*first_by_gates.values(), *others][:REJECTED_EXAMPLES]
    return [
        _embed_both(image, folder)
        | {"id": image.id, "edits": _name_edits(image), "reasons": image.verdict.reasons}
        for image in chosen
    ]


def _name_edits(image: StoredImage) -> list[str]:
    rows = [(edit.attribute, edit.original, edit.replacement) for edit in image.counterfactual.edits]
    return [name_edit(dict(zip(("attribute", "from", "to"), row, strict=True))) for row in rows]


def lost_confidence(before: Answer, after: Answer) -> float:
    """Returns how much confidence in the true class was lost."""
    return round((before.confidence or 0.0) - (after.confidence or 0.0), 4)


def mark_spans(text: str, spans: Iterable[str]) -> list[tuple[str, bool]]:
    """Returns a text in pieces, each with whether it is one of the spans."""
    pattern = "|".join(re.escape(span) for span in sorted(filter(None, spans), key=len, reverse=True))
    pieces = re.split(rf"(?<!\w)({pattern})(?!\w)", text) if pattern else [text]
    return [(piece, i % 2 == 1) for i, piece in enumerate(pieces) if piece]


def _read_answers(predictions: Predictions, images: set[str]) -> dict[str, tuple[Answer, Answer]]:
    """Returns by counterfactual what a model answered about its original and about it."""
    before, after = predictions.pairs()
    chosen = np.array([name in images for name in predictions.image[after].tolist()], bool)
    if not chosen.any():
        return {}
    answers = [predictions.list_answers(rows[chosen]) for rows in (before, after)]
    return dict(zip(predictions.image[after[chosen]].tolist(), zip(*answers, strict=True), strict=True))


def _original_and_counterfactual(image: StoredImage) -> dict[str, tuple[str, Path]]:
    """Returns the names of the pictures of both in report/, and the images themselves."""
    return {
        ORIGINAL: (f"originals/{image.source}.jpg", image.original),
        COUNTERFACTUAL: (f"counterfactuals/{image.id}.jpg", image.path),
    }


def _embed_both(image: StoredImage, folder: RunFolder) -> dict[str, Any]:
    """Returns the pictures of an original and its counterfactual, and the latter's text and file."""
    pictures = {
        kind: embed(read_small_copy(folder.path, name, path))
        for kind, (name, path) in _original_and_counterfactual(image).items()
    }
    return {"text": image.counterfactual.text, "file": _address(image)} | pictures


def _address(image: StoredImage) -> str:
    """Returns the address of an image for a page in its run folder."""
    return quote(f"{image.part}/{image.file}")


def _control_name(conditioning: str, source: str) -> str:
    return f"controls/{conditioning}/{source}.jpg"


def _placebo_name(source: str) -> str:
    return f"placebos/{source}.jpg"


def _error_map_name(model_number: int, kind: str, image: str) -> str:
    return f"error_maps/{model_number}/{kind}/{image}.png"


def _list_pictures(
    shown: Sequence[ShownImage], folder: RunFolder, placebos: Mapping[str, StoredImage]
) -> dict[str, Path | bytes]:
    """Returns all pictures by name, those of the first images first."""
    maps_by_model = [_read_error_maps(shown, folder, model) for model in folder.models]
    pictures: dict[str, Path | bytes] = {}
    for shown_image in shown:
        image = shown_image.image
        for name, path in _original_and_counterfactual(image).values():
            pictures[name] = path
        for conditioning, path in image.controls.items():
            pictures[_control_name(conditioning, image.source)] = path
        if image.source in placebos:
            pictures[_placebo_name(image.source)] = placebos[image.source].path
        for number, maps in enumerate(maps_by_model):
            for kind, name in ((ORIGINAL, image.source), (COUNTERFACTUAL, image.id)):
                if (kind, name) in maps:
                    pictures[_error_map_name(number, kind, name)] = maps[kind, name]
    return pictures


def _read_error_maps(
    shown: Sequence[ShownImage], folder: RunFolder, model: str
) -> dict[tuple[str, str], bytes]:
    images = {shown_image.image.source for shown_image in shown} | {
        shown_image.image.id for shown_image in shown
    }
    return error_maps(folder.predictions_file, model, images, folder.labels)


def _describe(shown_image: ShownImage, folder: RunFolder, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Returns what the script shows of an image; pictures are given by their numbers."""
    image = shown_image.image
    edits, text = image.counterfactual.edits, image.counterfactual.text
    names = {kind: name for kind, (name, _) in _original_and_counterfactual(image).items()}
    return {
        "id": image.id,
        "file": _address(image),
        "source": image.source,
        "caption": mark_spans(image.caption.text, (edit.original for edit in edits)),
        "uncorrected": image.caption.uncorrected,
        "text": mark_spans(text, (edit.words for edit in edits)),
        "edits": [[edit.attribute, edit.original, edit.replacement] for edit in edits],
        "checked": image.verdict.checked,
        "valid": image.verdict.valid,
        "reasons": list(image.verdict.reasons),
        "scores": [
            f"{name.replace('_', ' ')} {value:.2f}"
            for name, value in image.verdict.scores.items()
            if CLASS_SCORE not in name  # up to one a class: metadata.jsonl has them
        ],
        "classes": _classes_in(shown_image, folder),
        "original": numbers[names[ORIGINAL]],
        "image": numbers[names[COUNTERFACTUAL]],
        "placebo": numbers.get(_placebo_name(image.source)),
        "controls": [[name, numbers[_control_name(name, image.source)]] for name in image.controls],
        "answers": [
            _describe_answers(model, *shown_image.answers[model], folder)
            | {
                "errors": [
                    numbers.get(_error_map_name(number, kind, name))
                    for kind, name in ((ORIGINAL, image.source), (COUNTERFACTUAL, image.id))
                ]
            }
            for number, model in enumerate(folder.models)
            if model in shown_image.answers
        ],
    }


def _describe_answers(model: str, before: Answer, after: Answer, folder: RunFolder) -> dict[str, Any]:
    task, labels = get_task(folder.labels.task), folder.labels
    return {
        "model": model,
        "loss": lost_confidence(before, after),
        "outcome": task.outcome(before, after),
        "texts": [task.describe(before, labels), task.describe(after, labels)],
    }


def _classes_in(shown_image: ShownImage, folder: RunFolder) -> list[str]:
    """Returns the names of the classes that the original shows."""
    task, classes = get_task(folder.labels.task), folder.labels.classes
    ids = {i for before, _ in shown_image.answers.values() for i in task.classes_in(before)}
    return [classes[i] for i in sorted(ids)]


def _filter_values(images: Iterable[StoredImage]) -> dict[str, list[str]]:
    """Returns the most common new values of each attribute."""
    counts: dict[str, Counter[str]] = {}
    for image in images:
        for edit in image.counterfactual.edits:
            counts.setdefault(edit.attribute, Counter())[edit.replacement] += 1
    return {
        attribute: sorted(value for value, _ in values.most_common(FILTER_VALUES))
        for attribute, values in sorted(counts.items())
    }
