"""Models under test.

A model has a `name`, `load()` and `predict(images)`, which returns logits of the data set's classes for each image: (classes),
or (classes, height, width) at the size of the image. Images that come together are of one size.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ClassMap = Mapping[int | str, int]
"""The data set's class id for some of a model's classes: those by their id, their name in the checkpoint, or (of 1000) their WordNet id."""


def answers(logits: "Tensor", images: Sequence[Image.Image], class_map: ClassMap | None, names: Sequence[str] = ()) -> "Tensor | list[Tensor]":
    """Returns a network's logits, (images, classes) or (images, classes, height, width), as a model's answers: float32, on the CPU.

    The probabilities of classes that `class_map` sends to one are added; those of classes that it leaves out are divided
    among the rest. Raises a UserError for a class that the model, whose classes are called `names`, does not have.
    """
    import torch
    from torch.nn import functional as F

    logits = logits.float().cpu()
    if class_map is not None:
        kept = _ids(class_map, logits.shape[1], names)
        targets = torch.tensor(list(class_map.values()))
        summed = logits.new_zeros(len(logits), int(targets.max()) + 1, *logits.shape[2:]).index_add(1, targets, logits.softmax(1)[:, kept])
        logits = summed.clamp_min(1e-12).log()
    if logits.ndim == 2:
        return logits
    return [F.interpolate(one[None], (image.height, image.width), mode="bilinear")[0] for one, image in zip(logits, images, strict=True)]


def read_weights(path: str, setting: str) -> dict[str, "Tensor"]:
    """Returns the state dict in a file: .safetensors, or one that torch or Lightning saved; no pickled code is run.

    Raises a UserError, which names the setting of the path, when there is none.
    """
    import torch
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise UserError(f"{setting}={path}: there is no such file")
    try:
        held: dict[str, Any] = load_file(path) if path.endswith(".safetensors") else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{setting}={path} is no file of weights: {str(error).splitlines()[0]}") from error
    return held.get("state_dict", held)


def source(block: Mapping[str, Any]) -> str | None:
    """Returns the file in which the `_target_` of a block is written: when that changes, so may what it says."""
    spec = find_spec(block["_target_"].rpartition(".")[0])
    return spec.origin if spec else None


def _ids(class_map: ClassMap, classes: int, names: Sequence[str]) -> list[int]:
    known: dict[int | str, int] = {name: i for i, name in enumerate(names)}
    if classes == 1000:
        from ..dataset import imagenet

        known |= {wnid: i for i, wnid in enumerate(imagenet.classes())}
    known |= {i: i for i in range(classes)}
    if unknown := [key for key in class_map if key not in known]:
        called = f", called {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
        raise UserError(f"class_map: the model has no class {unknown[0]!r}; it has {classes}{called}")
    return [known[key] for key in class_map]
