"""The generator: a Stable-Diffusion-shaped pipeline with a ControlNet on masks, trained from scratch on cached latents."""

import logging
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from ...dataset.shift import COLOURS
from ..render import PEDESTRIAN, POLE, VEGETATION, VEHICLE
from .loop import DEVICE, fit, pixels
from .text import MAX_TOKENS, clip_tokenizer
from .world import World

log = logging.getLogger(__name__)
CHANNELS = (96, 160, 192)
DOWN = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
UP = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
SHARED = {"in_channels": 16, "block_out_channels": CHANNELS, "layers_per_block": 1, "cross_attention_dim": 128, "attention_head_dim": 4, "norm_num_groups": 16}


def scheduler() -> DDIMScheduler:
    """Returns the noise schedule: v-prediction, zero terminal signal-to-noise ratio and trailing timesteps.

    Without them nights stay grey (Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, WACV 2024).
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
    """Returns the scaled latents (n, 16, 20, 32), half precision, of all images of a world, cached in a file."""
    if not path.exists():
        latents = np.lib.format.open_memmap(path.with_suffix(".tmp"), mode="w+", dtype=np.float16, shape=(len(world), 16, 20, 32))
        vae = vae.to(DEVICE, memory_format=torch.channels_last).eval()
        for i in range(0, len(world), batch):
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
                mean = vae.encode(pixels(world.images[i : i + batch])).latent_dist.mean
            latents[i : i + batch] = (mean.float() * vae.config.scaling_factor).cpu().numpy()
        latents.flush()
        path.with_suffix(".tmp").rename(path)
    return np.load(path, mmap_mode="r")


def train(vae: AutoencoderKL, worlds: list[World], folder: Path, target: Path, steps: int = 11000, batch: int = 12) -> None:
    """Trains text encoder, UNet and ControlNet together and saves the pipeline to `target`.

    Every tenth caption is empty, for guidance; what is small weighs more than its area.
    """
    captions = [row["caption"] for w in worlds for row in w.rows]
    tokenizer = clip_tokenizer(captions, folder / "clip")
    ids = [torch.tensor(tokenizer([r["caption"] for r in w.rows], padding="max_length", max_length=MAX_TOKENS, truncation=True).input_ids) for w in worlds]
    empty = torch.tensor(tokenizer("", padding="max_length", max_length=MAX_TOKENS).input_ids)
    latents = [encode(vae, w, folder / f"latents-{k}.npy") for k, w in enumerate(worlds)]
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=128,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(sample_size=(20, 32), out_channels=16, down_block_types=DOWN, up_block_types=UP, **SHARED)
    control = ControlNetModel(down_block_types=DOWN, conditioning_embedding_out_channels=(8, 24, 64, 96), **SHARED)
    for conv in (*control.controlnet_down_blocks, control.controlnet_mid_block, control.controlnet_cond_embedding.conv_out):
        nn.init.xavier_uniform_(conv.weight, gain=0.3)  # trained from scratch: zero convolutions only delay it
    model = nn.ModuleDict({"text": text, "unet": unet.to(memory_format=torch.channels_last), "control": control.to(memory_format=torch.channels_last)})
    noise_schedule = scheduler()
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(COLOURS)] = COLOURS
    weight_of = np.ones(256, np.float32)
    weight_of[VEHICLE], weight_of[VEGETATION] = 4.0, 2.0
    weight_of[[PEDESTRIAN, POLE]] = 12.0  # they fill little of a cell of latents, which weighs what its pixels weigh on average

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        picks = [(k, int(rng.integers(len(worlds[k])))) for k in rng.integers(len(worlds), size=batch)]
        clean = torch.from_numpy(np.stack([latents[k][i] for k, i in picks])).float().to(DEVICE, memory_format=torch.channels_last)
        masks = np.stack([worlds[k].masks[i] for k, i in picks])
        tokens = torch.stack([empty if rng.random() < 0.1 else ids[k][i] for k, i in picks]).to(DEVICE)
        weight = torch.from_numpy(np.stack([cv2.resize(weight_of[m], (32, 20), interpolation=cv2.INTER_AREA) for m in masks]))[:, None].to(DEVICE)
        image = torch.from_numpy(palette[masks]).to(DEVICE).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(clean)
        # stratified timesteps: the loss of a small batch depends less on luck
        times = ((torch.randperm(batch, device=DEVICE) + torch.rand(batch, device=DEVICE)) / batch * 1000).long()
        noisy, wanted = noise_schedule.add_noise(clean, noise, times), noise_schedule.get_velocity(clean, noise, times)
        states = model["text"](tokens).last_hidden_state
        down, mid = model["control"](noisy, times, states, image, return_dict=False)
        guess = model["unet"](noisy, times, states, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample.float()
        return (weight * (guess - wanted) ** 2).mean() / weight.mean()

    trained = fit("diffusion", model, loss, folder=folder, steps=steps, lr=6e-4, average=0.9995)
    vae.register_to_config(_name_or_path="")  # else the folder it came from goes into the weights
    StableDiffusionControlNetPipeline(
        vae=vae.half(),
        text_encoder=trained["text"].half(),
        tokenizer=tokenizer,
        unet=trained["unet"].half(),
        controlnet=trained["control"].half(),
        scheduler=noise_schedule,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(target)
