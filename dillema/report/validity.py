"""Why images were rejected, and which planned values came out rarely."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..run_folder import RunFolder

RARE_SHARE = 0.5  # of an even share of the values of an attribute


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


def find_rare_values(plan: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Returns the values that came out less than half as often as an even plan would have them."""
    rare = []
    for attribute, counts in plan.items():
        total = sum(counts.values())
        even_share = total / len(counts) if counts else 0
        rare += [
            f"{attribute}: {value} ({count} of {total})"
            for value, count in counts.items()
            if count < RARE_SHARE * even_share
        ]
    return rare
