"""What the figures of a run mean, in words.

A drop is the original's figure less the other image's, so a positive drop is a loss. A sentence has one sign
only: it says that a figure drops by so many points, or that it rises, and its interval has the same
direction.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..run_folder import RunFolder, is_checked
from ..statistics import MIN_GROUPS

WORST_CONDITIONS = 3  # on the first screen
NAMES_IN_SENTENCE = 5  # of classes or edits
SIMILARITY_NAMES = {
    "ssim": "SSIM", "psnr": "PSNR", "lpips": "LPIPS", "clip_score": "CLIP score with their captions",
}  # fmt: skip
MODEL_CHECKS = "Check class_map, the normalisation (mean, std) and the order of the colour channels."
NO_MODEL = "No model was tested. Run the same command with model=..., and the images made so far are kept."
NOT_MENTIONED = "not mentioned"  # stands for the original of an edit that was inserted into a caption
Figures = Mapping[str, Any]


# ---- numbers -----------------------------------------------------------------------------------------------


def percent(share: float | None) -> str:
    """Returns a share in percent."""
    return "-" if share is None else f"{100 * share:.1f} %"


def points(share: float | None) -> str:
    """Returns a difference of shares in points."""
    if share is None:
        return "-"
    rounded = round(100 * share, 1) + 0  # there is no -0.0
    return f"{rounded:.1f}".replace("-", "\N{MINUS SIGN}")


def interval(figures: Figures, prefix: str = "") -> str:
    """Returns an interval in points; "" where there is none."""
    low, high = figures.get(f"{prefix}low"), figures.get(f"{prefix}high")
    return "" if low is None or high is None else f"{points(low)} to {points(high)}"


def rate_interval(figures: Figures, rate: str) -> str:
    """Returns the interval of a rate in brackets; "" where there is none."""
    low, high = figures.get(f"{rate}_low"), figures.get(f"{rate}_high")
    return "" if low is None or high is None else f" ({percent(low)} to {percent(high)})"


def p_value(p: float | None) -> str:
    """Returns a p value."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float | None) -> str:
    """Returns a time in seconds."""
    return "-" if value is None else f"{value:.1f}"


def duration(value: float | None) -> str:
    """Returns a time as people say it: "84.2 seconds", "37 minutes", "2.5 hours"."""
    if value is None or value < 120:
        return f"{seconds(value)} seconds"
    return f"{value / 60:.0f} minutes" if value < 120 * 60 else f"{value / 3600:.1f} hours"


def price(value: float | None) -> str:
    """Returns an amount of money, to three digits."""
    return "-" if value is None else f"{value:.3g}"


def count(quantity: int, noun: str) -> str:
    """Returns a number with its noun."""
    return f"{quantity:,} {noun}{'' if quantity == 1 else 's'}"


def format_metric_name(metric: str) -> str:
    """Returns the name of a metric of results.json as people write it."""
    name = metric.replace("_", " ").replace("iou", "IoU").replace("top5", "top-5").replace("f1", "F1")
    return name.replace("all classes", "all classes, scored or not")


def join_names(names: Sequence[str], limit: int = NAMES_IN_SENTENCE) -> str:
    """Returns the first of several names, and that there are more; one more is named, too."""
    limit += len(names) == limit + 1
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


# ---- sentences ---------------------------------------------------------------------------------------------


def describe_run(folder: RunFolder) -> str:
    """Returns what a run found out about all its models."""
    results = folder.results
    judged = is_checked(results), results["counts"].get("unjudged", 0)
    sentences = [" ".join(verdict(model, row, *judged)) for model, row in results["models"].items()]
    return "\n\n".join(sentences) or NO_MODEL


def verdict(model: str, figures: Figures, checked: bool = True, unjudged: int = 0) -> list[str]:
    """Returns sentences about what a run found out about a model, the most important one first.

    Args:
        model: Its name.
        figures: Of the model, from results.json.
        checked: Whether a gate judged any image.
        unjudged: How many images count because no gate could judge them.
    """
    if figures.get("drop") is None:
        which = "is valid" if checked else "has a result"
        return [
            *warnings(model, figures),
            f"No counterfactual {which}, so nothing can be said about {model}.",
        ]
    if is_too_few(figures):
        return [*warnings(model, figures), f"No verdict about {model}: {too_few(figures)}."]
    return [
        *warnings(model, figures),
        _describe_drop(model, figures, checked and not unjudged),
        *([] if checked else ["No gate checked the images: whether their labels still hold is not known."]),
        *_describe_placebo(figures),
        *_describe_harm(figures),
        *describe_reference(figures),
    ]


def warnings(model: str, figures: Figures) -> list[str]:
    """Returns what makes the figures of a model doubtful: it fails on the originals already."""
    metric, original = format_metric_name(figures["metric"]), figures.get("original")
    sentences = []
    if figures.get("near_chance") and original:
        sentences.append(
            f"Check {model} first: on the originals its {metric} is {percent(original[figures['metric']])}, "
            f"and always giving the most common answer reaches {percent(figures['chance'])}. The other "
            f"numbers then mean nothing. {MODEL_CHECKS}"
        )
    dead = figures.get("dead_classes") or []
    if dead:
        classes = "this class" if len(dead) == 1 else f"these {len(dead)} classes"
        sentences.append(
            f"Check {model} first: on the originals it never recognises {classes}: {join_names(dead)}. "
            f"{MODEL_CHECKS}"
        )
    return sentences


def is_too_few(figures: Figures) -> bool:
    """Returns whether figures are of too few groups of sources for any certainty."""
    return count_groups(figures) < MIN_GROUPS


def too_few(figures: Figures) -> str:
    """Returns that there are too few sources (or groups of them), or that no image counts."""
    groups = count_groups(figures)
    noun = "sources" if groups == figures.get("sources", groups) else "groups of sources"
    too_few = f"too few {noun} to be sure: {groups}, at least {MIN_GROUPS} are needed"
    return too_few if groups else "no image counts"


def count_groups(figures: Figures) -> int:
    """Returns how many independent groups of sources figures are of."""
    return int(figures.get("groups", figures.get("sources", 0)))


def basis(figures: Figures) -> str:
    """Returns of how many images and sources figures are."""
    images = count(figures.get("n", figures.get("images", 0)), "image")
    return f"{images} of {count(figures['sources'], 'source')}" if "sources" in figures else images


def _describe_drop(model: str, figures: Figures, checked: bool) -> str:
    metric = format_metric_name(figures["metric"])
    original = percent(figures["original"][figures["metric"]])
    changed = percent(figures["counterfactual"][figures["metric"]])
    kind = "valid counterfactuals" if checked else "counterfactuals"
    rough = ", rough with so few sources" if figures.get("rough") else ""
    change, bounds = _direction(figures)
    doubt = "" if is_significant(figures, figures["level"]) else ", which may be chance"
    interval_name = f"{100 * figures['level']:.0f} % interval{rough}"
    return (
        f"{_first_upper(metric)} of {model} {change} ({interval_name}: {bounds}){doubt}, "
        f"from {original} to {changed}, on {figures['images']} {kind} of "
        f"{count(figures['sources'], 'source')}."
    )


def _describe_placebo(figures: Figures) -> list[str]:
    placebo = figures.get("placebo")
    if not placebo or placebo["drop"] is None:
        return [
            "No image was painted from its unchanged caption, so what the generator alone does is not known."
        ]
    change = f"{format_metric_name(figures['metric'])} {describe_change(placebo)}"
    return [f"Where nothing was changed, the generator alone does this: {change}."]


def _describe_harm(figures: Figures) -> list[str]:
    rows = figures.get("per_value") or []
    if not figures.get("placebo") or not rows:
        return []
    harmful = [name_edit(row) for row in rows if row["harmful"]]
    inseparable = [
        f"{name_edit(row)} always together with {name_others(row)}"
        for row in _distinct(row for row in rows if is_harmful_together(row))
    ]
    sentences = []
    if harmful:
        are = "edit is harmful by itself" if len(harmful) == 1 else "edits are harmful by themselves"
        sentences.append(f"{len(harmful)} {are}: {join_names(harmful)}.")
    if inseparable:
        sentences.append(
            "Some edits are harmful, but they were always made together, so the data cannot "
            f"tell which of them is: {join_names(inseparable)}."
        )
    return sentences or ["No edit is shown to be harmful by itself."]


def describe_reference(figures: Figures) -> list[str]:
    """Returns how far estimated drops agree with those on real images; nothing without a reference."""
    reference = figures.get("reference")
    if not reference:
        return []
    uncovered = name_conditions(reference["uncovered"])
    gap = [f"No image that counts covers these real conditions: {uncovered}."] if uncovered else []
    conditions, name = count(reference["compared"], "condition"), reference["name"]
    if not reference["compared"]:
        return [f"Real images of {name} have no condition in common with images that count.", *gap]
    error = points(reference["mean_absolute_error"])
    sentence = f"Against real images of {conditions} ({name}), the mean absolute error is {error} points"
    if reference["rank_correlation"] is None:
        return [f"{sentence}; for a rank correlation there are too few conditions.", *gap]
    low, high = reference["rank_low"], reference["rank_high"]
    bounds = "" if low is None else f" ({low:.2f} to {high:.2f})".replace("-", "\N{MINUS SIGN}")
    correlation = f"{reference['rank_correlation']:.2f}".replace("-", "\N{MINUS SIGN}")
    drops = "the rank correlation of estimated and real drops"
    return [f"{sentence}, and {drops} is {correlation}{bounds}.", *gap]


def name_condition(condition: Mapping[str, str]) -> str:
    """Returns the values of a condition, such as "foggy night"."""
    return " ".join(condition.values())


def name_conditions(conditions: Iterable[Mapping[str, str]]) -> str:
    """Returns the first of several conditions, and that there are more."""
    return join_names([name_condition(condition) for condition in conditions])


def describe_change(figures: Figures, prefix: str = "") -> str:
    """Returns whether a figure drops or rises, by how many points, and the interval in the same direction."""
    change, bounds = _direction({name: figures.get(f"{prefix}{name}") for name in ("drop", "low", "high")})
    return change + (f" ({bounds})" if bounds else "")


def _direction(figures: Figures) -> tuple[str, str]:
    """Returns whether a figure drops or rises, by how many points, and the interval in the same direction."""
    drop, low, high = figures["drop"], figures.get("low"), figures.get("high")
    if drop >= 0:
        return f"drops by {points(drop)} points", interval(figures)
    bounds = "" if low is None or high is None else f"{points(-high)} to {points(-low)}"
    return f"rises by {points(-drop)} points", bounds


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---- tables ------------------------------------------------------------------------------------------------


def parts(figures: Figures) -> list[tuple[str, Figures]]:
    """Returns the figures of valid images, and those of all images where these differ, each with a title."""
    all_images = figures.get("all", figures)
    if all_images["images"] == figures["images"]:
        return [(count(figures["images"], "image"), figures)]
    return [
        (count(figures["images"], "valid image"), figures),
        (f"{count(all_images['images'], 'image')}, valid or not", all_images),
    ]


def is_significant(figures: Figures, level: float) -> bool:
    """Returns whether a drop can be told from chance: by its adjusted p, or by its interval."""
    if is_too_few(figures):
        return False
    if "p_adjusted" in figures:
        return figures["p_adjusted"] is not None and figures["p_adjusted"] < 1 - level
    low, high = figures.get("low"), figures.get("high")
    return low is not None and high is not None and not low <= 0 <= high


def name_edit(row: Figures) -> str:
    """Returns the attribute and its new value, and the original value where the row is of one."""
    if "from" in row:
        return f"{row['attribute']}: {row['from'] or NOT_MENTIONED} → {row['to']}"
    return f"{row['attribute']} → {row['to']}"


def name_others(row: Figures) -> str:
    """Returns the edits that a row's edit cannot be told apart from; "" where there are none."""
    return " and ".join(f"{attribute} → {value}" for attribute, value in row.get("always_with") or ())


def describe_own_effect(row: Figures) -> str:
    """Returns the effect of an edit apart from the other edits of the same images; "" where it is not known.

    No effect is beyond 100 points: an interval beyond says that the estimate means nothing.
    """
    if row.get("effect") is None:
        return ""
    bounds = [row["effect"], row.get("effect_low"), row.get("effect_high")]
    if any(abs(bound) > 1 for bound in bounds if bound is not None):
        return "by itself: cannot be told from so few images"
    own_interval = interval(row, "effect_")
    return f"by itself {points(row['effect'])} points" + (f" ({own_interval})" if own_interval else "")


def is_harmful_together(row: Figures) -> bool:
    """Returns whether an edit and those that it always comes with are harmful, and no one knows which is."""
    exceeds_placebo = row["harmful"] is None and row["edit_drop"] is not None
    return exceeds_placebo and bool(row.get("always_with"))


def worst_conditions(figures: Figures) -> list[dict[str, Any]]:
    """Returns the new values with the largest drops, of those that are shown to be harmful.

    With a placebo these are harmful by themselves, and those that cost most by themselves come first; without
    one they are those that can be told from chance, the largest drop first. Of values that cannot be told
    apart only the first is returned: they are of the same images.
    """
    rows = figures.get("per_value")
    if not rows or is_too_few(figures):
        return []
    if not figures.get("placebo"):
        harmful = [row for row in rows if (row["drop"] or 0) > 0 and is_significant(row, figures["level"])]
    else:
        harmful = [r for r in rows if (r["harmful"] or is_harmful_together(r)) and not is_too_few(r)]
        if all(row.get("effect") is not None for row in harmful):
            harmful.sort(key=lambda row: -row["effect"])
    return _distinct(harmful)[:WORST_CONDITIONS]


def _distinct(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows of new values without those that cannot be told apart from an earlier one."""
    distinct: list[dict[str, Any]] = []
    for row in rows:
        if not any(_is_inseparable(row, other) for other in distinct):
            distinct.append(row)
    return distinct


def _is_inseparable(row: Figures, other: Figures) -> bool:
    def names(first: Figures, second: Figures) -> bool:
        return [second["attribute"], second["to"]] in (first.get("always_with") or [])

    return names(row, other) or names(other, row)


def worst_in_words(figures: Figures) -> str:
    """Returns the worst conditions in one line, generator included; "" where none is shown to be harmful."""
    descriptions = []
    for row in worst_conditions(figures):
        parts, others = [f"{points(row['drop'])} points"], name_others(row)
        if row.get("edit_drop") is not None:
            parts.append(f"{points(row['edit_drop'])} beyond the generator alone")
        if others:
            parts.append(f"always together with {others}")
        descriptions.append(f"{name_edit(row)} ({', '.join(parts)})")
    return ", ".join(descriptions)


def shared(row: Figures) -> str:
    """Returns on what two models, or runs, are compared; `row` is of `statistics.compare`."""
    if not row["sources"]:
        return "no valid image and no source in common"
    (first, second), sources = row["images"], count(row["sources"], "source")
    if row["paired"] == "images":
        return f"the same {first} images of {sources}"
    return f"different images ({first} and {second}) of the same {sources}"


def sort_classes(per_class: Mapping[str, Figures]) -> list[tuple[str, Figures]]:
    """Returns the classes with their figures, the largest drop first."""
    return sorted(
        per_class.items(), key=lambda item: -2 if item[1]["drop"] is None else item[1]["drop"], reverse=True
    )


def describe_sizes(sizes: Mapping[str, int]) -> str:
    """Returns a sentence about the sizes at which images were generated and models saw them; "" for none."""
    names = [size.replace("x", " x ") for size in sizes]
    if len(names) == 1:
        return f"All images are {names[0]} pixels: originals, generated images and what the models saw."
    counts = [f"{name} ({count})" for name, count in zip(names, sizes.values(), strict=True)]
    listed = join_names(counts, 8)
    return f"Sizes in pixels, with the number of sources: {listed}." if names else ""
