"""Turns the output of a network into the output of a model under test."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import ItemError, UserError
from ..names import nearest

if TYPE_CHECKING:
    from torch import Tensor

ClassMap = Mapping[int | str, int]
"""The data set's class id for some of a model's classes.

A key is a class id of the model, a name in the checkpoint, or (for ImageNet's 1000 classes) a WordNet id.
"""


def map_logits(
    logits: "Tensor", images: Sequence[Image.Image], class_map: ClassMap | None, names: Sequence[str] = ()
) -> "Tensor | list[Tensor]":
    """Returns the logits of a network in float32, for the data set's classes, at the size of the images.

    The logits of the network are (images, classes) or (images, classes, height, width); gradients flow
    through. The probabilities of classes that `class_map` maps to the same class are added; those of classes
    that it leaves out are divided among the others. `names` are the classes of the model; a UserError is
    raised for other classes in `class_map`.
    """
    import torch
    from torch.nn import functional as F

    logits = logits.float()
    if class_map is not None:
        model_ids = find_model_ids(class_map, logits.shape[1], names)
        targets = torch.tensor(list(class_map.values()), device=logits.device)
        probabilities = logits.softmax(1)[:, model_ids]
        sums = logits.new_zeros(len(logits), int(targets.max()) + 1, *logits.shape[2:])
        logits = sums.index_add(1, targets, probabilities).clamp_min(1e-12).log()
    if logits.ndim == 2:
        return logits
    return [
        F.interpolate(output[None], (image.height, image.width), mode="bilinear")[0]
        for output, image in zip(logits, images, strict=True)
    ]


def finish_prediction(logits: "Tensor | Sequence[Tensor]") -> "Tensor | list[Tensor]":
    """Returns the logits of a batch on the CPU; raises an ItemError for NaN and infinite numbers."""
    import torch

    outputs = logits.cpu() if isinstance(logits, torch.Tensor) else [output.cpu() for output in logits]
    for output in outputs:
        if not output.isfinite().all():
            count = int((~output.isfinite()).sum())
            raise ItemError(
                f"the model returned NaN or infinite numbers ({count} of {output.numel()} logits)"
            )
    return outputs


def find_model_ids(class_map: ClassMap, classes: int, names: Sequence[str]) -> list[int]:
    """Returns the model's id for each key of a class_map; raises a UserError for an unknown class."""
    ids: dict[int | str, int] = {name: i for i, name in enumerate(names)}
    if classes == 1000:
        from ..dataset import imagenet

        ids |= {wnid: i for i, wnid in enumerate(imagenet.classes())}
    ids |= {i: i for i in range(classes)}
    if unknown := [key for key in class_map if key not in ids]:
        called = f", called {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
        near = nearest(str(unknown[0]), names)
        hint = f"did you mean {near}? It" if near else "it"
        raise UserError(f"class_map: the model has no class {unknown[0]!r}; {hint} has {classes}{called}")
    return [ids[key] for key in class_map]
