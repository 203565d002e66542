"""Predictions of two models on made-up images, the same on every machine; golden.json holds their figures."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from dillema.types import Edit

EDITS = (
    Edit("weather", "clear", "foggy"),
    Edit("weather", "clear", "snowy"),
    Edit("time of day", "day", "night"),
    Edit("colour", "blue", "red"),
)


class Case(NamedTuple):
    """One prediction."""

    model: str
    image: str
    source: str
    kind: str
    record: dict[str, Any]
    edits: tuple[Edit, ...] = ()
    valid: bool = True
    digest: str = ""


def cases(task: str, sources: int) -> Iterator[Case]:
    """Yields the predictions of two models on originals, counterfactuals and renders."""
    predict = {"classification": predict_label, "segmentation": predict_mask}[task]
    for index, model in enumerate(("m", "n")):
        random = np.random.default_rng(index)
        for s in range(sources):
            source = f"s{s:04}"
            yield Case(model, source, source, "original", predict(random, s, 0.1), digest=source)
            plan = np.random.default_rng(s)
            for v in range(int(plan.integers(1, 5))):
                edits = tuple(edit for edit in EDITS if plan.random() < 0.5) or EDITS[:1]
                valid = bool(plan.random() < 0.8)
                image, wrong = f"{source}_{v}", 0.1 + 0.15 * len(edits)
                record = predict(random, s, wrong)
                yield Case(model, image, source, "counterfactual", record, edits, valid, image)
                if s % 2:
                    yield Case(model, image, source, "truth", predict(random, s, wrong / 2), edits, valid)


def predict_label(random: np.random.Generator, source: int, wrong: float) -> dict[str, Any]:
    """Returns the record of a classifier with this error rate."""
    label = source % 3
    predicted = int(random.integers(3)) if random.random() < wrong else label
    top5 = [predicted, *(i for i in range(3) if i != predicted)][: 1 + source % 2]
    certainty = 0.4 + 0.6 * random.random()
    confidence = certainty if predicted == label else (1 - certainty) / 2
    return {
        "label": label,
        "predicted": predicted,
        "certainty": certainty,
        "confidence": confidence,
        "top5": top5,
    }


def predict_mask(random: np.random.Generator, source: int, wrong: float) -> dict[str, Any]:
    """Returns the record of a segmenter with this error rate; its cells are [true, predicted, pixels]."""
    pixels: dict[tuple[int, int], int] = {}
    for _ in range(12):
        true = int(random.integers(2 + source % 2))
        predicted = int(random.integers(3)) if random.random() < wrong else true
        pixels[true, predicted] = pixels.get((true, predicted), 0) + int(random.integers(1, 100))
    cells = [[true, predicted, count] for (true, predicted), count in pixels.items()]
    return {"confusion": cells, "confidence": float(random.random())}
