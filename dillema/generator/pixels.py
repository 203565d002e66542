"""Pixels in the place of latents, for pipelines of diffusers that have no autoencoder."""

from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from torch import Tensor
from torch.nn import functional as F


class PixelSpace(ModelMixin, AutoencoderMixin, ConfigMixin):  # type: ignore[misc]
    """Squares of pixels as the channels of latents, and back, without loss.

    A pipeline whose `vae` is this one diffuses pixels (as in Hoogeboom et al., simple diffusion, ICML 2023):
    it needs no decoder, which takes a third of the time of a small pipeline, and thin objects keep their
    edges. Nothing of it is learnt.

    Args:
        block_out_channels: One entry more than there are halvings of the size. Pipelines take the size of
            their latents from it, as from that of an autoencoder.
        scaling_factor: What a pipeline divides latents by before it decodes them.
        force_upcast: Read by pipelines.
    """

    use_slicing = use_tiling = False  # may be set, as those of an autoencoder: there is no memory to save

    @register_to_config  # type: ignore[untyped-decorator, unused-ignore]
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (3, 12, 48),
        scaling_factor: float = 2.0,
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        self.side = 2 ** (len(block_out_channels) - 1)  # pixels of a square
        self.register_buffer("one", torch.ones(1))  # a pipeline asks its parts for their dtype and device

    def encode(self, images: Tensor) -> AutoencoderTinyOutput:
        """Returns squares of pixels (n, 48, height / 4, width / 4) of images (n, 3, height, width)."""
        return AutoencoderTinyOutput(latents=F.pixel_unshuffle(images, self.side))

    def decode(self, latents: Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        """Returns images (n, 3, height, width), in the form in which an autoencoder returns them."""
        images = F.pixel_shuffle(latents, self.side)
        return DecoderOutput(sample=images) if return_dict else (images,)
