"""Models whose network can be trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image

from .. import hub
from ..execution import each_alone
from .logits import finish_prediction
from .weights import SAVED_WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Trainable:
    """A model whose network can be trained, and whose class saves and loads the weights.

    `load` must set `_network`, and a field `device` is its device (see `hub.placement`). `thread_safe` says
    whether several threads may use the network at the same time.
    """

    trainable: ClassVar[bool] = True
    thread_safe: ClassVar[bool] = True
    device: Any
    _network: Any

    @property
    def module(self) -> "Module":
        """Returns the loaded network."""
        network: Module = self._network
        return network

    def logits(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns the logits of each image as `predict`, but on the network's device and with gradients."""
        raise NotImplementedError

    def predict(self, images: Sequence[Image.Image]) -> "Tensor | list[Tensor]":
        """Returns the logits of each image; on a CPU, they do not depend on the batch."""
        import torch

        outputs = each_alone(self._predict, images, hub.is_on_cpu(self.device), self.thread_safe)
        return torch.stack(outputs) if outputs and outputs[0].ndim == 1 else outputs

    def save(self, folder: Path) -> None:
        """Writes the weights of the loaded network to a folder."""
        from safetensors.torch import save_file

        # shared tensors are written for each module, because the file is read by name
        state = {
            name: value.detach().cpu().clone().contiguous()
            for name, value in self._network.state_dict().items()
        }
        save_file(state, folder / SAVED_WEIGHTS)

    def _predict(self, images: Sequence[Image.Image]) -> "list[Tensor]":
        import torch

        with torch.inference_mode():
            return list(finish_prediction(self.logits(images)))

    def saved(self, folder: Path) -> Self:
        """Returns this model, not loaded, with the weights that `save` wrote to a folder."""
        raise NotImplementedError
