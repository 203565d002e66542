"""The captioner, and the language model as an editor of captions."""

import io
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image

from ...config import build
from ...counterfactual.naming import ClassNames
from ...dataset.mini import FIELDS, VALUES
from ...types import Caption, Expression, Sample
from ..scene import VEHICLE_KINDS, Task
from ..train.world import draw
from .rows import Row, format_rates

CAPTIONED_SCENES = 500
NOUN_BAR = 0.95
EDITED_CAPTIONS = 200


def measure_captioner(cfg: DictConfig) -> Iterator[Row]:
    """Yields how often the captioner names weather, time of day and colour rightly, and the vehicle.

    The vehicle is the label of half of the scenes: their captions are also corrected by it, as a run does.
    """
    captioner, dataset = build(cfg.captioner), build(cfg.dataset)
    captioner.load()
    correct = dict.fromkeys(VALUES, 0)
    nouns: dict[str, list[bool]] = {"vehicle": [], "street": []}
    class_names, contradictions = ClassNames(VEHICLE_KINDS, {}), 0
    for start in range(0, CAPTIONED_SCENES, 25):
        scenes = [draw("test", "street" if i % 2 else "vehicle", i) for i in range(start, start + 25)]
        samples = [Sample(str(i), partial(_encode, image)) for i, (image, _, _) in enumerate(scenes)]
        captions = captioner.caption(samples, dataset, [0] * len(samples))
        for caption, (_, _, row) in zip(captions, scenes, strict=True):
            words = caption.text.replace(",", " ").split()
            for attribute in VALUES:
                correct[attribute] += row[FIELDS[attribute]] in words
            task, kind = row["task"], row["kind"]
            nouns[task].append(kind in words)
            if task == "vehicle":
                label = VEHICLE_KINDS.index(kind)
                named = class_names.names(class_names.correct(caption.text, label))
                contradictions += bool(named) and not any(label in classes for classes in named)
    rates = {attribute: count / CAPTIONED_SCENES for attribute, count in correct.items()}
    bars = {"weather": 0.95, "time of day": 0.95, "colour": 0.9}
    yield Row(
        "captioner",
        f"{CAPTIONED_SCENES} scenes of the test split, half of each task",
        format_rates(rates),
        format_rates(bars),
        all(rates[attribute] >= bar for attribute, bar in bars.items()),
        rates,
    )
    named_labels, named_vehicles = (float(np.mean(nouns[task])) for task in ("vehicle", "street"))
    yield Row(
        "captioner's noun where it is the label",
        f"the {len(nouns['vehicle'])} vehicle scenes among them; then their captions, corrected by the label",
        f"{100 * named_labels:.0f} %; {contradictions} corrected captions contradict their label",
        f"{100 * NOUN_BAR:.0f} %; none",
        named_labels >= NOUN_BAR and not contradictions,
        {"vehicle scenes": named_labels, "contradictions": contradictions},
    )
    yield Row(
        "captioner's noun in streets",
        f"the {len(nouns['street'])} street scenes among them: the nearest of several vehicles, no label",
        f"{100 * named_vehicles:.0f} %",
        "none",
        None,
        {"street scenes": named_vehicles},
    )


def measure_language_model(cfg: DictConfig) -> Iterator[Row]:
    """Yields how often the language model finds the span of each attribute, and which values it uses."""
    editor, strategy = build(cfg.prompt), build(cfg.edits)
    editor.load()
    seconds: list[float] = []
    editor.llm.ask = _timed(editor.llm.ask, seconds)
    captions: dict[str, tuple[Caption, str, dict[str, Expression]]] = {}
    correct = dict.fromkeys(VALUES, 0)
    for i in range(EDITED_CAPTIONS):
        task: Task = "vehicle" if i % 4 == 0 else "street"
        _, _, row = draw("test", task, i)
        caption, label = Caption(row["caption"]), row["kind"] if task == "vehicle" else ""
        expressions = editor.keywords(caption, VALUES, label, i)
        captions[str(i)] = caption, label, expressions
        for attribute in VALUES:
            expression = expressions.get(attribute)
            correct[attribute] += expression is not None and expression.span == row[FIELDS[attribute]]
    keyword_questions = len(seconds)
    used = set()
    for sample_id, (caption, label, expressions) in captions.items():
        for variant in strategy.plan(sample_id, expressions, VALUES, 1, 0):
            counterfactual = editor.rewrite(caption, expressions, variant, label, int(sample_id))
            used |= {(edit.attribute, edit.replacement) for edit in counterfactual.edits}
    rates = {attribute: count / EDITED_CAPTIONS for attribute, count in correct.items()}
    yield _language_model_row(rates, seconds, keyword_questions, sum(map(len, VALUES.values())) - len(used))


def _language_model_row(
    rates: dict[str, float], seconds: list[float], keyword_questions: int, unused_values: int
) -> Row:
    questions, slowest, mean = len(seconds), max(seconds), sum(seconds) / len(seconds)
    retries = keyword_questions - EDITED_CAPTIONS
    return Row(
        "language model",
        f"{EDITED_CAPTIONS} captions, {questions} replies, {questions - keyword_questions} of them choices "
        f"of values; {retries} captions asked about again",
        f"spans {format_rates(rates)}; {unused_values} values unused; {mean:.2f} s a question "
        f"(slowest {slowest:.2f})",
        "no retry; 95 % each; every value used; 1 s",
        min(rates.values()) >= 0.95 and not unused_values and slowest < 1 and not retries,
        {**rates, "unused": unused_values, "seconds": mean, "slowest": slowest, "questions": questions},
    )


def _timed(ask: Callable[..., str], seconds: list[float]) -> Callable[..., str]:
    """Returns a function that asks, appends the seconds to a list, and checks that the reply is JSON."""

    def ask_timed(*args: Any) -> str:
        start = time.perf_counter()
        reply = ask(*args)
        seconds.append(time.perf_counter() - start)
        json.loads(reply)
        return reply

    return ask_timed


def _encode(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
