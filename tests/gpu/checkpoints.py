"""Checkpoints of Stable Diffusion 1.5 and XL in their real sizes, with random weights.

They take as long as the published ones, whose configurations they have. The tokenizer knows letters only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tests import tiny

TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "bos_token_id": 512,
    "eos_token_id": 513,
}
LARGE_TEXT = TEXT | {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
XL_UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@contextmanager
def drawn_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Draws the weights of new networks on a device: billions of them take a minute or more on a CPU."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def _autoencoder(sample_size):
    from diffusers import AutoencoderKL

    channels = (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=2,
        latent_channels=4,
        sample_size=sample_size,
    )


def _controlnets(unet):
    from diffusers import ControlNetModel

    return {name: ControlNetModel.from_unet(unet) for name in ("canny", "depth")}


def _stable_diffusion(home, device, dtype):
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with drawn_on(device, dtype):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        text_encoder = CLIPTextModel(CLIPTextConfig(**TEXT))
        vae, controlnets = _autoencoder(512), _controlnets(unet)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tiny.clip_tokenizer(home),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline, controlnets


def _sdxl(home, device, dtype):
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with drawn_on(device, dtype):
        unet = UNet2DConditionModel(**XL_UNET)
        text_encoder = CLIPTextModel(CLIPTextConfig(**TEXT))
        text_encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig(**LARGE_TEXT))
        vae, controlnets = _autoencoder(1024), _controlnets(unet)
    tokenizer = tiny.clip_tokenizer(home)
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=EulerDiscreteScheduler(),
    )
    return pipeline, controlnets


BUILDERS = {"sd15": _stable_diffusion, "sdxl": _sdxl}


def save(kind: str, home: Path, device: str, dtype: torch.dtype) -> None:
    """Writes base/, canny/ and depth/ of sd15 or sdxl."""
    torch.manual_seed(0)
    pipeline, controlnets = BUILDERS[kind](home, device, dtype)
    pipeline.save_pretrained(home / "base")
    for name, controlnet in controlnets.items():
        controlnet.save_pretrained(home / name)


def save_tiny(kind: str, home: Path) -> None:
    """Writes the same folders with small networks."""
    if kind == "sdxl":
        tiny.sdxl(home)
        return
    tiny.stable_diffusion(home / "base", home / "canny")
    tiny.controlnet(tiny.unet(cross_attention_dim=32)).save_pretrained(home / "depth")
