"""The generator: Stable Diffusion with a ControlNet, trained from scratch on cached latents.

The ControlNet reads the mask and the local contrast of a source: another render of the same scene
(`conditioning=segmentation_detail`). The generator in the package is from an earlier recipe, which gave the
ControlNet the mask alone (`conditioning=segmentation`); this one has not been run to its end.
"""

from pathlib import Path
from typing import Any

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
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..render import PEDESTRIAN, POLE, VEGETATION, VEHICLE
from .autoencoder import load_observer, perceptual_error, pixel_weights, reconstruction_error
from .loop import AS_THE_RECIPE_SAYS, DEVICE, ON_GPU, Limits, fit
from .pairs import LATENT_CHANNELS, LATENT_HEIGHT, LATENT_WIDTH, Pairs
from .text import MAX_TOKENS
from .world import World

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
BATCH = 128 if ON_GPU else 12
LEARNING_RATE = 1e-3 if ON_GPU else 6e-4  # larger batches bear larger steps
TIMESTEPS = 1000
# The product paints in few steps: the later part of the training mostly sees the timesteps that it visits.
SAMPLER_STEPS = 4
SAMPLER_PHASE, SAMPLER_SHARE = 0.5, 0.7  # begins after this share of the training; share of the timesteps
# In the last part, the last step is also judged by the picture that it decodes to.
PICTURE_PHASE, PICTURE_SHARE = 0.7, 0.25  # begins after this share of the training; share of the batch
PICTURE_WEIGHT, PERCEPTUAL_WEIGHT = 1.0, 0.4
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


def train(
    vae: AutoencoderKL,
    worlds: list[World],
    folder: Path,
    target: Path,
    steps: int = 11000,
    batch: int = BATCH,
    limits: Limits = AS_THE_RECIPE_SAYS,
) -> None:
    """Trains text encoder, UNet and ControlNet together and saves the pipeline to `target`."""
    pairs, picture = Pairs(vae, worlds, folder), _Picture(vae, folder)
    model = _build_networks(pairs.tokenizer)
    noise_schedule = scheduler()
    last_time = sampler_times()[-1]
    signal = noise_schedule.alphas_cumprod[last_time].to(DEVICE)
    pictures = max(1, round(PICTURE_SHARE * batch))  # in a batch

    def loss(rng: np.random.Generator, share: float) -> torch.Tensor:
        picks = pairs.draw(rng, batch)
        clean, masks = pairs.latents(picks), pairs.masks(picks)
        chosen = sorted(rng.permutation(batch)[:pictures].tolist())
        shown = torch.tensor(chosen, device=DEVICE)
        times = _draw_times(batch, share)
        if share >= PICTURE_PHASE:
            times[shown] = last_time
        noise = torch.randn_like(clean)
        noisy = noise_schedule.add_noise(clean, noise, times)
        velocity = noise_schedule.get_velocity(clean, noise, times)
        states = model["text"](pairs.captions(rng, picks)).last_hidden_state
        down, mid = model["control"](noisy, times, states, pairs.control(picks, masks), return_dict=False)
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        predicted = model["unet"](noisy, times, states, **residuals).sample.float()
        weight = _latent_weights(masks)
        latent_loss = (weight * (predicted - velocity) ** 2).mean() / weight.mean()
        if share < PICTURE_PHASE:
            return latent_loss
        painted = signal.sqrt() * noisy[shown] - (1 - signal).sqrt() * predicted[shown]
        images = pairs.images([picks[j] for j in chosen])
        return latent_loss + PICTURE_WEIGHT * picture.error(painted, images, masks[shown])

    trained = fit(
        "diffusion",
        model,
        loss,
        folder=folder,
        steps=steps,
        lr=LEARNING_RATE,
        average=0.9995,
        limits=limits,
    )
    _save(vae, pairs.tokenizer, trained, target)


class _Picture:
    """Compares the pictures that latents decode to with the true ones."""

    def __init__(self, vae: AutoencoderKL, folder: Path) -> None:
        self._vae = vae.to(DEVICE, memory_format=torch.channels_last).eval().requires_grad_(False)
        self._observer = load_observer(folder)

    def error(self, latents: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the error of pixels and of what an observer reads, as in the autoencoder's training."""
        output = self._vae.decode(latents / self._vae.config.scaling_factor).sample.float()
        weight = pixel_weights(labels)
        perceptual = perceptual_error(self._observer, self._observer(images), output, weight)
        return reconstruction_error(images, output, weight) + PERCEPTUAL_WEIGHT * perceptual


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
        conditioning_embedding_out_channels=(16, 32, 96, 128),
        **NETWORK_SIZES,
    )
    # Zero convolutions protect a pretrained UNet; where all is trained from scratch they only delay it.
    embedding = control.controlnet_cond_embedding.conv_out
    for conv in (*control.controlnet_down_blocks, control.controlnet_mid_block, embedding):
        nn.init.xavier_uniform_(conv.weight, gain=0.3)
    for network in (unet, control):
        network.to(memory_format=torch.channels_last)
    return nn.ModuleDict({"text": text, "unet": unet, "control": control})


def sampler_times() -> list[int]:
    """Returns the timesteps that a sampler of SAMPLER_STEPS steps visits, from noise to the image."""
    schedule = scheduler()
    schedule.set_timesteps(SAMPLER_STEPS)
    return [int(time) for time in schedule.timesteps]


def _draw_times(batch: int, share: float) -> torch.Tensor:
    """Returns one timestep in each of `batch` equal ranges: with fewer coincidences, the loss varies less.

    Later in the training, most are replaced by the nearest timestep above that the sampler visits.
    """
    positions = torch.randperm(batch, device=DEVICE) + torch.rand(batch, device=DEVICE)
    times = (positions / batch * TIMESTEPS).long()
    if share < SAMPLER_PHASE:
        return times
    width = TIMESTEPS // SAMPLER_STEPS
    visited = (times // width + 1) * width - 1
    return torch.where(torch.rand(batch, device=DEVICE) < SAMPLER_SHARE, visited, times)


def _latent_weights(masks: torch.Tensor) -> torch.Tensor:
    """Returns how much each cell of the latents counts (n, 1, 20, 32), from masks (n, height, width)."""
    class_weights = torch.ones(256, device=masks.device)
    for class_id, weight in CLASS_WEIGHTS.items():
        class_weights[class_id] = weight
    return F.adaptive_avg_pool2d(class_weights[masks][:, None], (LATENT_HEIGHT, LATENT_WIDTH))


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
