"""Renders of the small world in all conditions, by which estimated drops are checked."""

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, cast

from ..backend import Dataset
from ..errors import UserError
from ..fields import NotNegative, Positive
from ..types import Sample
from .mini import MiniImageNet, MiniShift
from .reference import NORMAL


@dataclass
class MiniReference:
    """The same `per_condition` scenes in every combination of `conditions`; a scene is a group."""

    per_condition: Positive = 20
    split: str = "test"
    seed: NotNegative = 0
    conditions: dict[str, list[str]] = field(default_factory=dict)
    normal: dict[str, str] = field(default_factory=lambda: dict(NORMAL))
    name: str = "mini"

    def samples(self, dataset: Dataset) -> list[Sample]:
        """Returns the renders; raises a UserError for a data set with other classes."""
        worlds = {"segmentation": MiniShift, "classification": MiniImageNet}
        world = worlds.get(dataset.task)
        if world is None or tuple(cast(Any, world()).classes) != tuple(dataset.classes):
            raise UserError(
                f"reference=mini has the classes of the small world, and not those of {dataset.name}"
            )
        samples = []
        for values in product(*self.conditions.values()):
            attributes = dict(zip(self.conditions, values, strict=True))
            where = {name: [value] for name, value in attributes.items()}
            for sample in world(self.split, self.per_condition, self.seed, where).samples():
                sample_id = "-".join(["reference", *values, sample.id]).replace(" ", "_")
                samples.append(replace(sample, id=sample_id, attributes=attributes, group=sample.id))
        return samples
