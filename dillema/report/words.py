"""What the figures of a run say, in words."""

from collections.abc import Mapping
from typing import Any

WORST = 3  # conditions on the first screen
LIKENESS = {"ssim": "SSIM", "psnr": "PSNR", "lpips": "LPIPS", "clip_score": "CLIP score with their captions"}


def verdict(model: str, figures: Mapping[str, Any]) -> str:
    """Returns in one sentence what a run found out about a model."""
    if figures.get("drop") is None:
        return f"No counterfactual is valid, so nothing can be said about {model}."
    metric, drop, low, high = name_of(figures["metric"]), figures["drop"], figures["low"], figures["high"]
    basis = f"on {figures['images']} valid counterfactuals of {figures['sources']} sources"
    if low is None:
        return f"{model} {'loses' if drop >= 0 else 'gains'} {abs(100 * drop):.1f} points of {metric} {basis}: too few sources for an interval."
    rough = ", rough with so few sources" if figures.get("rough") else ""
    interval = f"({100 * figures['level']:.0f} % interval{rough}: {points(low)} to {points(high)} points lost)"
    if low <= 0 <= high:
        return f"{model} shows no change of {metric} that can be told from chance {basis} {interval}."
    return f"{model} {'loses' if drop > 0 else 'gains'} {abs(100 * drop):.1f} points of {metric} {basis} {interval}."


def percent(share: float | None) -> str:
    """Returns a share as a person reads it."""
    return "-" if share is None else f"{100 * share:.1f} %"


def points(share: float | None) -> str:
    """Returns a difference of shares in points, with a real minus sign."""
    return "-" if share is None else f"{round(100 * share, 1) + 0:.1f}".replace("-", "\N{MINUS SIGN}")  # + 0: there is no -0.0


def chance(p: float | None) -> str:
    """Returns a p value as a person reads it."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def shared(row: Mapping[str, Any]) -> str:
    """Returns on what two models, or runs, were held against each other; `row` is of statistics.compare."""
    (first, second), sources = row["images"], f"{row['sources']} source{'' if row['sources'] == 1 else 's'}"
    if not row["sources"]:
        return "no valid image and no source in common"
    return f"the same {first} images of {sources}" if row["paired"] == "images" else f"other images ({first} and {second}) of the same {sources}"


def name_of(metric: str) -> str:
    """Returns a name of results.json as a person writes it."""
    return metric.replace("_", " ").replace("iou", "IoU").replace("top5", "top-5").replace("f1", "F1")


def told(row: Mapping[str, Any], level: float) -> bool:
    """Returns whether a drop can be told from chance: by its p adjusted for the rows beside it, by its interval where there is none."""
    if "p_adjusted" in row:
        return row["p_adjusted"] is not None and row["p_adjusted"] < 1 - level
    return row["low"] is not None and not row["low"] <= 0 <= row["high"]


def worst(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the edits that harm most, those before all others whose harm can be told from chance."""
    harmful = [row for row in figures.get("per_attribute", ()) if (row["drop"] or 0) > 0]
    return sorted(harmful, key=lambda row: (told(row, figures["level"]), row["low"] is not None, row["drop"]), reverse=True)[:WORST]


def within(figures: Mapping[str, Any], rate: str) -> str:
    """Returns the interval of a rate in brackets, or nothing where there is none."""
    low, high = figures.get(f"{rate}_low"), figures.get(f"{rate}_high")
    return "" if low is None or high is None else f" ({percent(low)} to {percent(high)})"


def by_drop(per_class: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the classes with their figures, the largest drop first."""
    return sorted(per_class.items(), key=lambda item: -2 if item[1]["drop"] is None else item[1]["drop"], reverse=True)
