"""The generator: Stable Diffusion with a ControlNet on masks, trained from scratch on cached latents."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...dataset.shift import COLOURS
from ..render import PEDESTRIAN, POLE, VEGETATION, VEHICLE
from .loop import DEVICE, fit, pixels
from .text import MAX_TOKENS, clip_tokenizer
from .world import World, draw_batch

LATENT_CHANNELS, LATENT_HEIGHT, LATENT_WIDTH = 16, 20, 32
TEXT_WIDTH = 128
DOWN_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
UP_BLOCKS = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
NETWORK_SIZES: dict[str, Any] = {  # of the UNet and of the ControlNet
    "in_channels": LATENT_CHANNELS,
    "block_out_channels": (96, 160, 192),
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}
EMPTY_CAPTION_SHARE = 0.1  # for classifier-free guidance
# A cell of latents weighs what its pixels weigh on average, and pedestrians and poles fill little of one.
CLASS_WEIGHTS = {VEHICLE: 4.0, VEGETATION: 2.0, PEDESTRIAN: 12.0, POLE: 12.0}


def scheduler() -> DDIMScheduler:
    """Returns the noise schedule: v-prediction, zero terminal signal-to-noise ratio and trailing timesteps.

    Without them nights stay grey (Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed,
    WACV 2024).
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
    )


@torch.no_grad()
def encode(vae: AutoencoderKL, world: World, path: Path, batch: int = 16) -> np.ndarray:
    """Returns the scaled latents (n, 16, 20, 32), half precision, of all images, cached in a file."""
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        shape = (len(world), LATENT_CHANNELS, LATENT_HEIGHT, LATENT_WIDTH)
        latents = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        vae = vae.to(DEVICE, memory_format=torch.channels_last).eval()
        for i in range(0, len(world), batch):
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
                mean = vae.encode(pixels(world.images[i : i + batch])).latent_dist.mean
            latents[i : i + batch] = (mean.float() * vae.config.scaling_factor).cpu().numpy()
        latents.flush()
        temporary.rename(path)
    return np.load(path, mmap_mode="r")


def train(
    vae: AutoencoderKL, worlds: list[World], folder: Path, target: Path, steps: int = 11000, batch: int = 12
) -> None:
    """Trains text encoder, UNet and ControlNet together and saves the pipeline to `target`."""
    tokenizer = clip_tokenizer([row["caption"] for world in worlds for row in world.rows], folder / "clip")
    tokens = [_tokenize(tokenizer, [row["caption"] for row in world.rows]) for world in worlds]
    (empty_caption,) = _tokenize(tokenizer, [""])
    latents = [encode(vae, world, folder / f"latents-{k}.npy") for k, world in enumerate(worlds)]
    model = _build_networks(tokenizer)
    noise_schedule = scheduler()
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(COLOURS)] = COLOURS

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        picks = draw_batch(rng, worlds, batch)
        clean = torch.from_numpy(np.stack([latents[k][i] for k, i in picks])).float()
        clean = clean.to(DEVICE, memory_format=torch.channels_last)
        masks = np.stack([worlds[k].masks[i] for k, i in picks])
        captions = [empty_caption if rng.random() < EMPTY_CAPTION_SHARE else tokens[k][i] for k, i in picks]
        control = torch.from_numpy(palette[masks]).to(DEVICE).permute(0, 3, 1, 2).float().div(255)
        control = control.contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(clean)
        times = _draw_times(batch)
        noisy = noise_schedule.add_noise(clean, noise, times)
        velocity = noise_schedule.get_velocity(clean, noise, times)
        states = model["text"](torch.stack(captions).to(DEVICE)).last_hidden_state
        down, mid = model["control"](noisy, times, states, control, return_dict=False)
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        predicted = model["unet"](noisy, times, states, **residuals).sample.float()
        weight = _latent_weights(masks)
        return (weight * (predicted - velocity) ** 2).mean() / weight.mean()

    trained = fit("diffusion", model, loss, folder=folder, steps=steps, lr=6e-4, average=0.9995)
    _save(vae, tokenizer, trained, target)


def _tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Returns token ids (captions, MAX_TOKENS)."""
    return torch.tensor(tokenizer(captions, padding="max_length", max_length=MAX_TOKENS).input_ids)


def _build_networks(tokenizer: CLIPTokenizer) -> nn.ModuleDict:
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=(LATENT_HEIGHT, LATENT_WIDTH),
        out_channels=LATENT_CHANNELS,
        down_block_types=DOWN_BLOCKS,
        up_block_types=UP_BLOCKS,
        **NETWORK_SIZES,
    )
    control = ControlNetModel(
        down_block_types=DOWN_BLOCKS,
        conditioning_embedding_out_channels=(8, 24, 64, 96),
        **NETWORK_SIZES,
    )
    # Zero convolutions protect a pretrained UNet; where all is trained from scratch they only delay it.
    embedding = control.controlnet_cond_embedding.conv_out
    for conv in (*control.controlnet_down_blocks, control.controlnet_mid_block, embedding):
        nn.init.xavier_uniform_(conv.weight, gain=0.3)
    for network in (unet, control):
        network.to(memory_format=torch.channels_last)
    return nn.ModuleDict({"text": text, "unet": unet, "control": control})


def _draw_times(batch: int) -> torch.Tensor:
    """Returns one timestep in each of `batch` equal ranges: with fewer coincidences, the loss varies less."""
    positions = torch.randperm(batch, device=DEVICE) + torch.rand(batch, device=DEVICE)
    return (positions / batch * 1000).long()


def _latent_weights(masks: np.ndarray) -> torch.Tensor:
    """Returns how much each cell of the latents counts (n, 1, 20, 32), from masks (n, height, width)."""
    class_weights = np.ones(256, np.float32)
    for class_id, weight in CLASS_WEIGHTS.items():
        class_weights[class_id] = weight
    size = (LATENT_WIDTH, LATENT_HEIGHT)
    cells = [cv2.resize(class_weights[mask], size, interpolation=cv2.INTER_AREA) for mask in masks]
    return torch.from_numpy(np.stack(cells))[:, None].to(DEVICE)


def _save(vae: AutoencoderKL, tokenizer: CLIPTokenizer, networks: nn.ModuleDict, target: Path) -> None:
    vae.register_to_config(_name_or_path="")  # else the folder that it was loaded from would be saved
    StableDiffusionControlNetPipeline(
        vae=vae.half(),
        text_encoder=networks["text"].half(),
        tokenizer=tokenizer,
        unet=networks["unet"].half(),
        controlnet=networks["control"].half(),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(target)
