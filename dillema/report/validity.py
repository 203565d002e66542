"""Why images were rejected, and which planned values came out rarely."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..run_folder import RunFolder

RARE_SHARE = 1 / 3  # of the mean count of the values of an attribute


def count_rejections(folder: RunFolder) -> dict[str, Any]:
    """Returns how many images were rejected, by gate and by new value of each attribute.

    An image that two gates reject counts for both.
    """
    rejected_by_gate: Counter[str] = Counter()
    images_by_value: Counter[tuple[str, str]] = Counter()
    rejected_by_value: Counter[tuple[str, str]] = Counter()
    images = rejected = 0
    for image in folder.generated():
        verdict = image.verdict
        values = {(edit.attribute, edit.replacement) for edit in image.counterfactual.edits}
        images += 1
        images_by_value.update(values)
        if verdict.valid:
            continue
        rejected += 1
        rejected_by_value.update(values)
        rejected_by_gate.update({reason.partition(":")[0] for reason in verdict.reasons})
    gates = [(gate, rejected_by_gate[gate], images) for gate in folder.results["gates"]]
    rates_by_value = [
        (f"{attribute}: {value}", rejected_by_value[attribute, value], total)
        for (attribute, value), total in images_by_value.items()
    ]
    return {
        "images": images,
        "rejected": rejected,
        "gates": gates,
        "values": sorted(rates_by_value, key=lambda row: (-row[1] / row[2], row[0])),
    }


def find_rare_values(folder: RunFolder) -> list[str]:
    """Returns the new values that came out rarely or never.

    These are the values of the plan and those that the configuration lists for the data set. A value that
    all sources have already cannot come out.
    """
    plan = folder.results.get("plan") or {}
    listed = (folder.settings.config.get("dataset") or {}).get("vary") or {}
    originals: dict[str, set[str]] = {}
    for image in folder.generated():
        for edit in image.counterfactual.edits:
            originals.setdefault(edit.attribute, set()).add(edit.original)
    rare = []
    for attribute in sorted(plan.keys() | listed.keys()):
        possible = {str(value): 0 for value in listed[attribute]} if listed.get(attribute) else {}
        present = originals.get(attribute, set())
        if len(present) == 1:
            possible = {value: 0 for value in possible if value not in present}
        rare += describe_rare_values(attribute, possible | plan.get(attribute, {}))
    return rare


def describe_rare_values(attribute: str, counts: Mapping[str, int]) -> list[str]:
    """Returns the values with less than RARE_SHARE of the mean count of their attribute."""
    total = sum(counts.values())
    if not total:
        return [f"{attribute}: no value at all"]
    mean = total / len(counts)
    return [
        f"{attribute}: {value} ({count or 'none'} of {total})"
        for value, count in sorted(counts.items(), key=lambda item: (item[1], item[0]))
        if count < RARE_SHARE * mean
    ]
