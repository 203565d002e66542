"""The gates of the default run against images of which a third is spoiled on purpose."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image

from ...backend import Gate
from ...config import build
from ...dataset.mini import FIELDS, VALUES, MiniShift, render_as
from ...keys import seed_for
from ...steps.verdict import verdict
from ...types import Counterfactual, Edit, Sample
from ..caption import describe
from ..render import PEDESTRIAN, VEHICLE, render
from ..scene import Appearance, Scene, sample_scene, scene_seed
from .measures import CLEAR_DAYS, paint, see_attributes
from .rows import Row

IMAGES = 600
SPOILED_SHARE = 1 / 3
REMOVED_SHARE = 0.01  # of the pixels, that a class must cover to be removed
NOISE = 0.7  # weight of the noise in an image that is spoiled by it
CURVE_POINTS = 40
MIN_PRECISION, MIN_RECALL = 0.95, 0.85

SPOILS = {
    "wrong control": "painted over another scene",
    "no edit": "painted from the unchanged caption",
    "noise": "mixed with noise",
    "another scene": "a render of another scene with the same edits",
    "class removed": "painted over the scene without its vehicles or pedestrians",
    "half the edit": "painted with the first of two edits alone",
}


@dataclass(frozen=True)
class Case:
    """An image that gates look at: what it should show, and how it is made.

    Attributes:
        sample: The source whose label and image it is compared with.
        counterfactual: The edits that it should show.
        spoil: How it is spoiled; "" if it is not.
        painted: The scene that it is painted over.
        text: The text that it is painted from.
        finish: What is done to the painted image.
    """

    sample: Sample
    counterfactual: Counterfactual
    spoil: str
    painted: Sample
    text: str
    finish: Callable[[Image.Image], Image.Image]


def measure_gates(cfg: DictConfig, images: int = IMAGES) -> Iterator[Row]:
    """Yields precision and recall of the default gates together, and the curves of each alone.

    An image is truly valid if it is not spoiled and if a classifier that no gate uses sees all edits in it.
    """
    dataset = MiniShift(split="val", limit=images, where=CLEAR_DAYS)
    cases = make_cases(dataset.samples())
    painted, _ = paint(cfg, dataset, [case.painted for case in cases], [case.text for case in cases])
    shown = [case.finish(image) for case, image in zip(cases, painted, strict=True)]
    is_valid = np.array([not case.spoil for case in cases]) & _see_edits(shown, cases)
    gates = [build(block) for block in cfg.validity.values()]
    scores = _score(gates, shown, cases, dataset)
    yield _together(gates, scores, is_valid, cases)
    for gate in gates:
        yield _alone(gate, scores, is_valid, len(cases))


def make_cases(samples: Sequence[Sample]) -> list[Case]:
    """Returns a case for each sample, a third of them spoiled, each way equally often."""
    ways = list(SPOILS)
    cases, spoiled = [], 0
    for i, sample in enumerate(samples):
        is_spoiled = int((i + 1) * SPOILED_SHARE) > int(i * SPOILED_SHARE)
        way = ways[spoiled % len(ways)] if is_spoiled else ""
        spoiled += is_spoiled
        cases.append(_make_case(sample, way, samples[(i + 1) % len(samples)]))
    return cases


def _make_case(sample: Sample, way: str, other: Sample) -> Case:
    rng = np.random.default_rng(seed_for(0, sample.id, "gates"))
    scene = sample_scene(scene_seed(*sample.id.split("-")[:2], int(sample.id.rsplit("-", 1)[1])))
    caption_seed = int(rng.integers(2**31))
    count = 2 if way == "half the edit" else int(rng.integers(1, 4))
    edits = _draw_edits(sample, count, rng)

    def write(changes: Sequence[Edit]) -> str:
        look = _change(sample, changes)
        return describe(scene, look, "street", np.random.default_rng(caption_seed))

    counterfactual = Counterfactual(write(edits), tuple(edits), caption=write([]))
    painted, text, finish = sample, counterfactual.text, _keep
    if way == "wrong control":
        painted = other
    elif way == "no edit":
        text = counterfactual.caption
    elif way == "half the edit":
        text = write(edits[:1])
    elif way == "noise":
        finish = partial(_add_noise, seed=int(rng.integers(2**31)))
    elif way == "another scene":
        values = {**sample.attributes, **{edit.attribute: edit.replacement for edit in edits}}
        finish = partial(_render_instead, other.id, values)
    elif way == "class removed":
        painted = _remove_class(sample, scene)
    return Case(sample, counterfactual, way, painted, text, finish)


def _draw_edits(sample: Sample, count: int, rng: np.random.Generator) -> list[Edit]:
    attributes = rng.permutation(list(VALUES))[:count].tolist()
    edits = []
    for attribute in attributes:
        own = sample.attributes[attribute]
        value = str(rng.choice([value for value in VALUES[attribute] if value != own]))
        edits.append(Edit(attribute, own, value))
    return edits


def _change(sample: Sample, edits: Sequence[Edit]) -> Appearance:
    values = {**sample.attributes, **{edit.attribute: edit.replacement for edit in edits}}
    return Appearance(**{field: values[attribute] for attribute, field in FIELDS.items()})


def _remove_class(sample: Sample, scene: Scene) -> Sample:
    """Returns the sample without its vehicles, or without its pedestrians if vehicles are few pixels."""
    mask = sample.mask
    if mask is None:
        raise ValueError(f"{sample.id} has no mask")
    without = {
        VEHICLE: replace(scene, vehicles=()),
        PEDESTRIAN: replace(scene, things=tuple(t for t in scene.things if t.kind != "pedestrian")),
    }
    shares = {class_id: float((mask == class_id).mean()) for class_id in without}
    present = [class_id for class_id, share in shares.items() if share >= REMOVED_SHARE]
    class_id = min(present, key=lambda i: shares[i]) if present else VEHICLE
    image, smaller_mask = render(without[class_id], _change(sample, []))
    return replace(
        sample,
        id=f"{sample.id}-without",
        read_image=partial(_encode, image),
        read_mask=partial(_encode, smaller_mask),
    )


def _encode(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _keep(image: Image.Image) -> Image.Image:
    return image


def _add_noise(image: Image.Image, seed: int) -> Image.Image:
    pixels = np.asarray(image)
    noise = np.random.default_rng(seed).integers(0, 256, pixels.shape)
    return Image.fromarray(((1 - NOISE) * pixels + NOISE * noise).astype(np.uint8))


def _render_instead(sample_id: str, values: Mapping[str, str], image: Image.Image) -> Image.Image:
    return render_as(sample_id, values).resize(image.size, Image.Resampling.LANCZOS)


def _see_edits(images: Sequence[Image.Image], cases: Sequence[Case]) -> np.ndarray:
    """Returns whether the benchmark's own classifier sees every edit in each image."""
    seen = see_attributes(images)
    return np.array(
        [
            all(seen[edit.attribute][i] == edit.replacement for edit in case.counterfactual.edits)
            for i, case in enumerate(cases)
        ]
    )


def _score(
    gates: Sequence[Gate], images: Sequence[Image.Image], cases: Sequence[Case], dataset: MiniShift
) -> list[dict[str, float]]:
    """Returns the scores of each image by "<gate>.<score>"."""
    rows: list[dict[str, float]] = [{} for _ in cases]
    for gate in gates:
        gate.load()
        for start in range(0, len(cases), gate.batch_size):
            part = cases[start : start + gate.batch_size]
            scored = gate.score(
                [case.sample for case in part],
                [case.counterfactual for case in part],
                images[start : start + len(part)],
                dataset,
            )
            for row, values in zip(rows[start:], scored, strict=False):
                if isinstance(values, Exception):
                    raise values
                row.update({f"{gate.name}.{name}": value for name, value in values.items()})
    return rows


def _together(
    gates: Sequence[Gate], scores: Sequence[Mapping[str, float]], is_valid: np.ndarray, cases: Sequence[Case]
) -> Row:
    accepted = np.array([verdict(gates, row).valid for row in scores])
    precision, recall = rate_gates(accepted, is_valid)
    spoils = np.array([case.spoil for case in cases])
    caught = {way: float((~accepted)[spoils == way].mean()) for way in SPOILS if (spoils == way).any()}
    count = int((spoils != "").sum())
    return Row(
        "gates, default combination",
        f"{len(cases)} images, {count} spoiled on purpose; truly valid: not spoiled, and another classifier "
        "sees all edits",
        f"precision {precision:.3f} at recall {recall:.3f}; rejected: "
        + ", ".join(f"{way} {100 * share:.0f} %" for way, share in caught.items()),
        f"precision {MIN_PRECISION} at recall {MIN_RECALL}",
        precision >= MIN_PRECISION and recall >= MIN_RECALL,
        {"precision": precision, "recall": recall, "caught": caught, "valid": int(is_valid.sum())},
    )


def _alone(gate: Gate, scores: Sequence[Mapping[str, float]], is_valid: np.ndarray, images: int) -> Row:
    accepted = np.array([verdict([gate], row).valid for row in scores])
    precision, recall = rate_gates(accepted, is_valid)
    names = [f"{gate.name}.{name}" for name in gate.scores]
    curves = {
        name: draw_curve(np.array([row.get(name, np.nan) for row in scores]), is_valid) for name in names
    }
    return Row(
        f"gate {gate.name} alone",
        f"the same {images} images, with the threshold of the default run",
        f"precision {precision:.3f} at recall {recall:.3f}",
        "",
        None,
        {"precision": precision, "recall": recall, "curves": curves},
    )


def rate_gates(accepted: np.ndarray, is_valid: np.ndarray) -> tuple[float, float]:
    """Returns the share of valid images among the accepted, and of accepted images among the valid."""
    both = float((accepted & is_valid).sum())
    return both / max(int(accepted.sum()), 1), both / max(int(is_valid.sum()), 1)


def draw_curve(values: np.ndarray, is_valid: np.ndarray) -> list[dict[str, Any]]:
    """Returns precision and recall for thresholds from the lowest score to the highest."""
    thresholds = np.unique(np.nanquantile(values, np.linspace(0, 1, CURVE_POINTS)))
    points = []
    for threshold in thresholds.tolist():
        precision, recall = rate_gates(~(values < threshold), is_valid)
        points.append({"threshold": threshold, "precision": precision, "recall": recall})
    return points


def plot_curves(rows: Sequence[Row], folder: Path) -> bool:
    """Writes gates.png: precision over recall of each score; returns whether any row has curves."""
    curves = {name: points for row in rows for name, points in row.figures.get("curves", {}).items()}
    if not curves:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        recalls, precisions = ([point[side] for point in points] for side in ("recall", "precision"))
        axes.plot(recalls, precisions, marker=".", label=name)
    for row in rows:
        if row.name.startswith("gates, "):
            axes.plot(row.figures["recall"], row.figures["precision"], "k*", markersize=14, label="together")
    axes.axhline(MIN_PRECISION, color="grey", linestyle=":")
    axes.axvline(MIN_RECALL, color="grey", linestyle=":")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend()
    figure.savefig(folder / "gates.png", dpi=120)
    return True
