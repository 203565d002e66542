"""The semantic mask as a control image."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from ..backend import Dataset, Size
from ..errors import ItemError, UserError
from ..fields import Weight
from ..types import Control, Sample

# Colours of ADE20K, which the public segmentation ControlNets were trained on, for the classes of SHIFT and
# Cityscapes. A class that ADE20K does not have is black. A road has the colour of ADE20K's road, which is
# that of its skyscrapers.
ADE20K_COLOURS = {
    "building": (180, 120, 120),
    "fence": (255, 184, 6),
    "pedestrian": (150, 5, 61),
    "pole": (51, 0, 255),
    "road line": (140, 140, 140),
    "road": (140, 140, 140),
    "sidewalk": (235, 255, 7),
    "vegetation": (4, 200, 3),
    "vehicle": (0, 102, 200),
    "wall": (120, 120, 120),
    "traffic sign": (255, 5, 153),
    "sky": (6, 230, 230),
    "ground": (120, 120, 70),
    "bridge": (255, 82, 0),
    "rail track": (120, 120, 70),
    "guard rail": (255, 61, 6),
    "traffic light": (41, 0, 255),
    "water": (61, 230, 250),
    "terrain": (4, 250, 7),
    "person": (150, 5, 61),
    "rider": (150, 5, 61),
    "car": (0, 102, 200),
    "truck": (255, 0, 20),
    "bus": (255, 0, 245),
    "motorcycle": (163, 0, 255),
    "bicycle": (255, 245, 0),
}


@dataclass
class Segmentation:
    """The mask in colours.

    Attributes:
        palette: The data set's own colours, or those of ADE20K for ControlNets that were trained on them.
        weight: The weight of the control image.
    """

    palette: Literal["dataset", "ade20k"] = "dataset"
    weight: Weight = 1.0

    name: ClassVar[str] = "segmentation"
    batch_size: ClassVar[int] = 1
    needs_masks: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def load(self) -> None:
        """Does nothing: there is no model."""

    def control(self, sample: Sample, dataset: Dataset, size: Size) -> Control:
        """Returns the mask in colours, resized to `size` by nearest neighbour.

        Raises a UserError for a sample without a mask, an ItemError for class ids that the data set does not
        have.
        """
        mask = checked_mask(sample, dataset, self.name)
        resized = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
        return Control(Image.fromarray(self._colours(dataset)[np.asarray(resized)]), self.weight)

    def _colours(self, dataset: Dataset) -> np.ndarray:
        """Returns the colour of each class id (256, 3), uint8; black for those that have none."""
        colours = np.zeros((256, 3), np.uint8)
        if self.palette == "dataset":
            colours[: len(dataset.colours)] = dataset.colours
            return colours
        if not ADE20K_COLOURS.keys() & set(dataset.classes):
            raise UserError(
                f"conditioning.palette=ade20k has no class of {dataset.name}, "
                f"but {', '.join(ADE20K_COLOURS)}; use conditioning.palette=dataset"
            )
        colours[: len(dataset.classes)] = [ADE20K_COLOURS.get(name, (0, 0, 0)) for name in dataset.classes]
        return colours


def checked_mask(sample: Sample, dataset: Dataset, conditioning: str) -> np.ndarray:
    """Returns the mask of a sample.

    Raises a UserError for a sample without a mask, an ItemError for class ids that the data set does not
    have.
    """
    mask = sample.mask
    if mask is None:
        raise UserError(
            f"conditioning={conditioning} needs masks, and {dataset.name} has none for {sample.id}; "
            "use conditioning=canny"
        )
    unknown = set(np.unique(mask).tolist()) - set(range(len(dataset.colours))) - dataset.ignored
    if unknown:
        ids = sorted(unknown)
        raise ItemError(f"the mask of {sample.id} holds class ids that {dataset.name} does not have: {ids}")
    return mask
