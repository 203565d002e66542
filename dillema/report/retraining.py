"""The page about a retraining, and what its figures say in words."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import gallery, origin, plots, words

UNTOUCHED, ORIGINALS, AUGMENTATION, COUNTERFACTUALS = ("untouched", "originals", "augmentation", "counterfactuals")
ARMS = (ORIGINALS, AUGMENTATION, COUNTERFACTUALS)
NAMES = {"original": "originals", "counterfactual": "valid counterfactuals", "truth": "real renders: the truth"}  # of the kinds of images
NAMED = 5  # classes in a sentence


def verdict(model: str, figures: Mapping[str, Any]) -> list[str]:
    """Returns in a few sentences what retraining on counterfactuals bought, against originals alone and against augmentation."""
    images, over, drawn = figures["images"], figures["arms"][COUNTERFACTUALS]["over"], figures["over_sources"]
    sources, metric = figures["sources"]["test"], words.name_of(figures["metric"])
    if images["truth"]:
        kind, what = "truth", f"{metric} in the truth"
        others = len(over[ORIGINALS]["per_condition"]) - 1
        where = f"real renders of {sources} untouched sources in {others} conditions other than their own"
    else:
        kind, what, where = "counterfactual", metric, f"{images['counterfactual']} valid counterfactuals of {sources} untouched sources"
    gains = {other: over[other][kind] for other in (ORIGINALS, AUGMENTATION)}
    gained, price = gains[ORIGINALS], over[ORIGINALS]["original"]
    if gained["mean"] is None:
        return [f"No counterfactual of the sources to test {model} on is valid, so nothing can be said about retraining it."]
    said = [
        f"Retraining {model} on counterfactuals {_bought(gained)} points of {what} against originals alone, on {where} ({_interval(figures, gained)}).",
        f"Against classical augmentation it {_bought(gains[AUGMENTATION])} points ({_interval(figures, gains[AUGMENTATION])}).",
        f"On the originals themselves it {_bought(price)} points against originals alone ({_interval(figures, price)}).",
    ]
    if drawn[ORIGINALS][kind]["low"] is not None:
        rough, groups = ", rough with so few" if drawn[ORIGINALS][kind]["rough"] else "", drawn[ORIGINALS][kind]["groups"]
        one, two = (f"{_within(drawn[other][kind])}{_chance(drawn[other][kind])}" for other in gains)
        said.append(
            f"Were other sources drawn, and not other seeds, the interval against originals would be {one}, and that against augmentation {two} "
            f"(bootstrap over {groups} {'sources' if groups == sources else 'groups of sources'}{rough})."
        )
    if not images["truth"]:
        said.append("These counterfactuals are generated, as those that were trained on: the truth may be another.")
    return [*said, unlearnt(figures["unseen"])] if figures["unseen"] else said


def unlearnt(classes: Sequence[str]) -> str:
    """Returns what it means that no source to train on is of some of the classes of those to test on."""
    named = ", ".join(classes[:NAMED]) + (", ..." if len(classes) > NAMED else "")
    return f"No source to train on is of {len(classes)} of the classes of those to test on ({named}): every arm unlearns them. Raise dataset.limit."


def share(figure: Mapping[str, Any]) -> str:
    """Returns the mean of a share over seeds and its interval, in percent."""
    return f"{words.percent(figure['mean'])} ({_within(figure)})".removesuffix(" ()")


def gain(figure: Mapping[str, Any]) -> str:
    """Returns the mean of a difference over seeds and its interval, in points."""
    return f"{words.points(figure['mean'])} ({_within(figure)})".removesuffix(" ()")


def write(results: Mapping[str, Any], examples: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Writes report.html; `examples` hold images that were trained on (original, augmented, counterfactual) and a text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("dillema", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.globals.update(plots=plots, words=words, share=share, verdict=verdict, within=_within, names=NAMES, arms=ARMS)
    page = pages.get_template("retraining.html.j2").render(
        results=results,
        models={name: figures["retraining"] for name, figures in results["models"].items()},
        examples=[{"text": e["text"], "images": {name: gallery.embedded(gallery.small(image)) for name, image in e["images"].items()}} for e in examples],
        name=f"{folder.parent.name} {folder.name}",
        origin=origin.of(folder),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _within(figure: Mapping[str, Any]) -> str:
    """Returns an interval in percent or points, or nothing where there is none."""
    return "" if figure["low"] is None else f"{words.points(figure['low'])} to {words.points(figure['high'])}"


def _bought(figure: Mapping[str, Any]) -> str:
    return f"{'buys' if figure['mean'] >= 0 else 'costs'} {abs(100 * figure['mean']):.1f}"


def _interval(figures: Mapping[str, Any], figure: Mapping[str, Any]) -> str:
    seeds = len(figures["seeds"])
    if figure["low"] is None:
        return "a single seed: no interval"
    rough = ", rough with so few" if figures["rough"] else ""
    return f"{100 * figures['level']:.0f} % interval over {seeds} seeds{rough}: {_within(figure)}{_chance(figure)}"


def _chance(figure: Mapping[str, Any]) -> str:
    return ", so it may be chance" if figure["low"] <= 0 <= figure["high"] else ""
