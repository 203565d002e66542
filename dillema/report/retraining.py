"""The page about a retraining, and what its figures mean in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..files import write_atomically
from ..retraining import ARMS, AUGMENTATION, COUNTERFACTUALS, ORIGINALS
from ..run_folder import RunFolder
from ..statistics import MIN_GROUPS
from . import words
from .origin import read_origin
from .page import environment
from .thumbnails import embed

UNTOUCHED = "untouched"
IMAGE_KINDS = ("original", "counterfactual", "truth")
"""The kinds of images that models are tested on, besides those of a reference."""

ARM_NAMES = {
    UNTOUCHED: "nothing more (as it was)",
    ORIGINALS: "originals alone",
    AUGMENTATION: "originals and augmented images",
    COUNTERFACTUALS: "originals and counterfactuals",
}
Figures = Mapping[str, Any]


def name_kinds(checked: bool) -> dict[str, str]:
    """Returns the names of the kinds of test images; no image is called valid that no gate has checked."""
    return {
        "original": "originals",
        "counterfactual": "valid counterfactuals" if checked else "counterfactuals",
        "truth": "renders (true images)",
        "reference": "real images (the reference)",
    }


def verdict(model: str, figures: Figures, checked: bool = True) -> list[str]:
    """Returns what retraining on counterfactuals gains, over originals alone and over augmentation.

    Args:
        model: Its name.
        figures: Of the retraining of the model, from results.json.
        checked: Whether any gate looked at the counterfactuals.
    """
    images, differences = figures["images"], figures["arms"][COUNTERFACTUALS]["over"]
    metric, sources = words.format_metric_name(figures["metric"]), figures["sources"]["test"]
    kind = next((k for k in ("reference", "truth") if images.get(k)), "counterfactual")
    if kind == "reference":
        where = f"{images['reference']} real images of the reference"
    elif kind == "truth":
        conditions = len(differences[ORIGINALS]["per_condition"]) - 1
        renders = f"true images (renders) of {sources} untouched sources"
        where = f"{renders} in {conditions} conditions other than their own"
    else:
        counterfactuals = name_kinds(checked)["counterfactual"]
        where = f"{images['counterfactual']} {counterfactuals} of {sources} untouched sources"
    gain, augmentation_gain = (differences[other][kind] for other in (ORIGINALS, AUGMENTATION))
    on_originals = differences[ORIGINALS]["original"]
    if gain["mean"] is None:
        which = "is valid" if checked else "has a figure"
        return [
            f"No counterfactual of the sources to test {model} on {which}, so retraining cannot be judged."
        ]
    real_images = figures["over_sources"][ORIGINALS]["reference"]["groups"] if kind == "reference" else None
    if words.is_too_few({"sources": sources if real_images is None else real_images}):
        if real_images is None:
            few = (
                f"{words.too_few({'sources': sources})}. These are the sources that no training has seen: "
                "dataset.limit and job.test_fraction give more."
            )
        else:
            few = (
                f"too few groups of real images to be sure: {real_images}, at least {MIN_GROUPS} are "
                "needed. reference.limit gives more."
            )
        unseen = [describe_unseen(figures["unseen"])] if figures["unseen"] else []
        return [f"No verdict about {model}: {few}", *unseen]
    sentences = [
        f"With counterfactuals, {metric} of {model} is {_difference(gain)} than with originals alone, "
        f"on {where} "
        f"({_describe_interval(figures, gain)}).",
        f"Compared with classical augmentation, it is {_difference(augmentation_gain)} "
        f"({_describe_interval(figures, augmentation_gain)}).",
        f"On the originals themselves, it is {_difference(on_originals)} than with originals alone "
        f"({_describe_interval(figures, on_originals)}).",
        *_describe_intervals_over_sources(figures, kind),
    ]
    if kind == "counterfactual":
        sentences.append(
            "These test images are generated, as the training images are: on real ones it may be different."
        )
    if figures["unseen"]:
        sentences.append(describe_unseen(figures["unseen"]))
    return sentences


def describe_unseen(classes: Sequence[str]) -> str:
    """Returns what it means that no source to train on shows some of the classes of those to test on."""
    count = "1 class" if len(classes) == 1 else f"{len(classes)} classes"
    return (
        f"The sources to train on lack {count} of those to test on ({words.join_names(classes)}): "
        "every arm loses them. Raise dataset.limit."
    )


def share(figure: Figures) -> str:
    """Returns the mean of a share over seeds and its interval, in percent."""
    return f"{words.percent(figure['mean'])} ({words.interval(figure)})".removesuffix(" ()")


def gain(figure: Figures) -> str:
    """Returns the mean of a difference over seeds and its interval, in points."""
    return f"{words.points(figure['mean'])} ({words.interval(figure)})".removesuffix(" ()")


def write_page(folder: RunFolder) -> None:
    """Writes report.html into the run folder of a retraining."""
    results = folder.results
    checked = bool(results.get("gates", True))
    page = (
        environment()
        .get_template("retraining.html.j2")
        .render(
            results=results,
            models={name: figures["retraining"] for name, figures in results["models"].items()},
            examples=[_embed_example(example, folder) for example in results["examples"]],
            name=results["name"],
            origin=read_origin(folder),
            arms=ARMS,
            arm_names=ARM_NAMES,
            kind_names=name_kinds(checked),
            checked=checked,
            describe_share=share,
            verdict=verdict,
        )
    )
    write_atomically(folder.path / "report.html", page)


def _embed_example(example: Figures, folder: RunFolder) -> dict[str, Any]:
    images = {kind: embed((folder.path / file).read_bytes()) for kind, file in example["images"].items()}
    return {"text": example["text"], "images": images}


def _difference(figure: Figures) -> str:
    size = words.points(abs(figure["mean"]))
    return f"{size} points {'higher' if figure['mean'] >= 0 else 'lower'}"


def _describe_interval(figures: Figures, figure: Figures) -> str:
    """Returns the interval over seeds, in the direction of the sentence, and a doubt if it is one."""
    seeds = len(figures["seeds"])
    if figure["low"] is None:
        return "a single seed: no interval"
    rough = ", rough with so few" if figures["rough"] else ""
    bounds = _interval_in_direction(figure, figure["mean"])
    return f"{100 * figures['level']:.0f} % interval over {seeds} seeds{rough}: {bounds}{_doubt(figure)}"


def _interval_in_direction(figure: Figures, mean: float) -> str:
    low, high = (figure["low"], figure["high"]) if mean >= 0 else (-figure["high"], -figure["low"])
    return words.interval({"low": low, "high": high})


def _describe_intervals_over_sources(figures: Figures, kind: str) -> list[str]:
    over_sources = figures["over_sources"]
    first = over_sources[ORIGINALS][kind]
    if first["low"] is None:
        return []
    rough = ", rough with so few" if first["rough"] else ""
    unit = "real images" if kind == "reference" else "sources"
    images = figures["images"]["reference"] if kind == "reference" else figures["sources"]["test"]
    groups = unit if first["groups"] == images else f"groups of {unit}"
    originals, augmentation = (
        f"{words.interval(over_sources[other][kind])}{_doubt(over_sources[other][kind])}"
        for other in (ORIGINALS, AUGMENTATION)
    )
    return [
        f"With other {unit} instead of other seeds, the difference from originals alone would be "
        f"{originals}, and that from augmentation {augmentation} "
        f"(bootstrap over {first['groups']} {groups}{rough})."
    ]


def _doubt(figure: Figures) -> str:
    return ", which may be chance" if figure["low"] <= 0 <= figure["high"] else ""
