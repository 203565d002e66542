"""Why images were rejected, and which planned values came out rarely."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config_check import fits
from ..gate_check import describe_unseen_masks
from ..run_folder import RunFolder
from ..steps.verdict import FAILED
from ..task import get_task
from ..types import Verdict
from .words import count

CAPTION_SCORE = "text_original"  # of a gate that compares captions with original images
RARE_SHARE = 1 / 3  # of the mean count of the values of an attribute


@dataclass
class Rejections:
    """How many of some images were rejected, in all and by each gate."""

    images: int = 0
    rejected: int = 0
    unjudged: int = 0
    by_gate: Counter[str] = field(default_factory=Counter)
    scored_by_gate: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Adds an image. One that two gates reject counts for both."""
        self.images += 1
        self.rejected += not verdict.valid
        self.unjudged += not verdict.checked
        scored = {name.partition(".")[0] for name in verdict.scores if not name.endswith(f".{FAILED}")}
        self.scored_by_gate.update(scored)
        self.by_gate.update({reason.partition(":")[0] for reason in verdict.reasons})

    @property
    def rate(self) -> float:
        """Returns the share of rejected images."""
        return self.rejected / self.images if self.images else 0.0


def count_rejections(folder: RunFolder) -> dict[str, Any]:
    """Returns how many images were rejected: of all, of placebos, of each attribute and of each new value.

    Attributes and values come with their names, the attribute that is rejected most often first; values
    follow their attribute.
    """
    generated, placebos = Rejections(), Rejections()
    attributes: dict[str, Rejections] = {}
    values: dict[str, dict[str, Rejections]] = {}
    for image in folder.generated():
        generated.add(image.verdict)
        for edit in image.counterfactual.edits:
            attributes.setdefault(edit.attribute, Rejections()).add(image.verdict)
            rows = values.setdefault(edit.attribute, {})
            rows.setdefault(edit.replacement, Rejections()).add(image.verdict)
    for image in folder.placebos():
        placebos.add(image.verdict)
    blocks: Mapping[str, Any] = folder.settings.select("validity") or {}
    table = [(attribute, sort_by_rate(values[attribute]), row) for attribute, row in sort_by_rate(attributes)]
    return {
        "gates": folder.results["gates"],
        "scoring_gates": [
            name for name in folder.results["gates"] if not blocks.get(name, {}).get("weights")
        ],
        "caption_gates": find_caption_gates(folder),
        "unseen_masks": find_unseen_masks(folder),
        "all": generated,
        "placebos": placebos,
        "attributes": table,
    }


def describe_abstentions(folder: RunFolder) -> list[str]:
    """Returns sentences about gates that judged no image, and about images that no gate judged."""
    counted = count_rejections(folder)
    images: Rejections = counted["all"]
    sentences = [
        f"validity.{gate} scored none of the {count(images.images, 'image')}: it has nothing to judge in them"
        for gate in counted["scoring_gates"]
        if images.images and not images.scored_by_gate[gate] + images.by_gate[gate]
    ]
    if counted["gates"] and images.unjudged:
        sentences.append(describe_unjudged(images.unjudged))
    return sentences


def describe_unjudged(images: int) -> str:
    """Returns what it means that no gate could judge some images."""
    them = "it, so it counts, but is not" if images == 1 else "them, so they count, but are not"
    return f"{count(images, 'image')}: no gate could judge {them} called valid."


def find_caption_gates(folder: RunFolder) -> list[str]:
    """Returns the gates with a threshold for captions that do not fit the original image."""
    gates: Mapping[str, Any] = folder.settings.select("validity") or {}
    return [name for name, block in gates.items() if CAPTION_SCORE in (block.get("minimum") or {})]


def find_unseen_masks(folder: RunFolder) -> str:
    """Returns a sentence if the run has masks and no gate compares the images with them; "" otherwise."""
    if not get_task(folder.results["task"]).has_masks:
        return ""
    return describe_unseen_masks(folder.settings.select("validity") or {})


def sort_by_rate(rows: Mapping[str, Rejections]) -> list[tuple[str, Rejections]]:
    """Returns rows with their names, the highest rate first."""
    return sorted(rows.items(), key=lambda item: (-item[1].rate, item[0]))


def find_rare_values(folder: RunFolder) -> list[str]:
    """Returns the new values that came out rarely or never.

    These are the values of the plan and those that the configuration lists for the data set. A value that
    all sources have already cannot come out.
    """
    plan = folder.results.get("plan") or {}
    vary = folder.settings.select("dataset.vary")
    listed = vary if fits(vary, dict[str, list[str] | None]) else {}
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
