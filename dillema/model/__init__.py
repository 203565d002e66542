"""Models under test.

A model has a `name`, `load()` and `predict(images)`, which returns logits of the data set's classes for each image: (classes),
or (classes, height, width) at the size of the image. Images that come together are of one size. Those that `job=retrain` can
train are Trainable.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image

from ..errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

WEIGHTS = "model.safetensors"  # in a folder of saved weights

ClassMap = Mapping[int | str, int]
"""The data set's class id for some of a model's classes: those by their id, their name in the checkpoint, or (of 1000) their WordNet id."""


def answers(logits: "Tensor", images: Sequence[Image.Image], class_map: ClassMap | None, names: Sequence[str] = ()) -> "Tensor | list[Tensor]":
    """Returns a network's logits, (images, classes) or (images, classes, height, width), as a model's answers: float32, on its device.

    The probabilities of classes that `class_map` sends to one are added; those of classes that it leaves out are divided
    among the rest. Raises a UserError for a class that the model, whose classes are called `names`, does not have.
    """
    import torch
    from torch.nn import functional as F

    logits = logits.float()
    if class_map is not None:
        kept = _ids(class_map, logits.shape[1], names)
        targets = torch.tensor(list(class_map.values()), device=logits.device)
        summed = logits.new_zeros(len(logits), int(targets.max()) + 1, *logits.shape[2:]).index_add(1, targets, logits.softmax(1)[:, kept])
        logits = summed.clamp_min(1e-12).log()
    if logits.ndim == 2:
        return logits
    return [F.interpolate(one[None], (image.height, image.width), mode="bilinear")[0] for one, image in zip(logits, images, strict=True)]


class Trainable:
    """A model whose network can be trained, and its weights kept and loaded again by the same class.

    `load` leaves the network as `_network`.
    """

    trainable: ClassVar[bool] = True
    _network: Any

    @property
    def module(self) -> "Module":
        """Returns the network, which is loaded."""
        network: Module = self._network
        return network

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns logits as `dillema.model` says, on the device of the network; gradients flow back through them."""
        raise NotImplementedError

    def predict(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns logits as `dillema.model` says."""
        import torch

        with torch.inference_mode():
            found = self.logits(images)
            return found.cpu() if isinstance(found, torch.Tensor) else [one.cpu() for one in found]

    def save(self, folder: Path) -> None:
        """Writes the weights of the network, which is loaded, to a folder."""
        from safetensors.torch import save_file

        # what modules share is written for each of them: the file is read by name
        save_file({name: weights.detach().cpu().clone().contiguous() for name, weights in self._network.state_dict().items()}, folder / WEIGHTS)

    def saved(self, folder: Path) -> Self:
        """Returns this model, not loaded, with the weights that `save` left in a folder."""
        raise NotImplementedError


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
