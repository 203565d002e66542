"""The semantic mask as a control image."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from ..errors import ItemError, UserError
from ..types import Control, Dataset, Sample

# Colours of ADE20K, which the public segmentation ControlNets were trained on, for the classes of SHIFT and Cityscapes;
# what ADE20K does not know is black. A road is drawn as ADE20K's road, whose colour it shares with skyscrapers.
ADE20K = {
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
    """The mask painted in the data set's own colours, or in ADE20K's for ControlNets trained on those."""

    palette: Literal["dataset", "ade20k"] = "dataset"
    weight: float = 1.0

    name: ClassVar[str] = "segmentation"
    transient: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ()

    def load(self) -> None:
        """Does nothing: there is no model."""

    def control(self, sample: Sample, dataset: Dataset, size: tuple[int, int]) -> Control:
        """Returns the mask in colours, resized to `size` (width, height) by nearest neighbour.

        Raises a UserError for a sample without a mask, an ItemError for class ids that the data set does not know.
        """
        mask = sample.mask
        if mask is None:
            raise UserError(f"conditioning=segmentation needs masks, and {dataset.name} has none for {sample.id}; use conditioning=canny")
        unknown = set(np.unique(mask).tolist()) - set(range(len(dataset.colours))) - dataset.ignored
        if unknown:
            raise ItemError(f"the mask of {sample.id} holds class ids that {dataset.name} does not know: {sorted(unknown)}")
        colours = np.zeros((256, 3), np.uint8)
        if self.palette == "dataset":
            colours[: len(dataset.colours)] = dataset.colours
        else:
            if not ADE20K.keys() & set(dataset.classes):
                raise UserError(f"conditioning.palette=ade20k knows no class of {dataset.name}, but {', '.join(ADE20K)}; use conditioning.palette=dataset")
            colours[: len(dataset.classes)] = [ADE20K.get(name, (0, 0, 0)) for name in dataset.classes]
        ids = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
        return Control(Image.fromarray(colours[np.asarray(ids)]), self.weight)
