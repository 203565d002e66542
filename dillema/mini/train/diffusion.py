"""The generator: Stable Diffusion with a ControlNet, in the space of pixels.

The ControlNet reads the mask and the local contrast of a source: another render of the same scene
(`conditioning=segmentation_detail`). The generator in the package was trained on from an earlier one, which
painted latents of an autoencoder and lost thin objects in them: the inner layers were kept.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...generator.pixels import PixelSpace
from ..scene import HEIGHT, WIDTH
from .loop import AS_THE_RECIPE_SAYS, DEVICE, ON_GPU, Limits, fit
from .observer import Observer
from .pairs import Pairs
from .picture import perceptual_error, pixel_weights, reconstruction_error
from .text import MAX_TOKENS
from .world import World

TEXT_WIDTH = 128
DOWN_BLOCKS = ("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",) * 2
UP_BLOCKS = ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",) * 2
SPACE = PixelSpace()
CHANNELS = 3 * SPACE.side**2
NETWORK_SIZES: dict[str, Any] = {  # of the UNet and of the ControlNet
    "in_channels": CHANNELS,
    "block_out_channels": (64, 96, 160, 192),
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}
BATCH = 128 if ON_GPU else 16
LEARNING_RATE = 2e-3 if ON_GPU else 1.2e-3  # larger batches bear larger steps
# The timesteps of a sampler of four steps, from noise to the image, and the share of a batch that has each.
# The first step makes the picture from captions and control images alone, which is the hardest.
TIME_SHARES = {999: 0.375, 749: 0.1875, 499: 0.1875, 249: 0.25}
# Below this timestep, so many of the noisy images are made from what the first step predicts, as in sampling.
PREDICTED_BELOW, PREDICTED_SHARE = 700, 0.3
# Pictures of the last and of the first step are judged, too: by pixels, and later by what an observer reads.
PICTURES = {249: 4, 999: 2}  # at most, in a batch
PICTURE_WEIGHT, PERCEPTUAL_WEIGHT = 0.5, 0.4
PERCEPTUAL_PHASE = 0.4  # share of the training after which the observer knows enough to be asked
MAX_WEIGHT = 4.0  # of a pixel
MAX_TIME_WEIGHT = 5.0  # of a timestep; below it the error counts as that of the velocity would


def scheduler() -> DDIMScheduler:
    """Returns the noise schedule: zero terminal signal-to-noise ratio and trailing timesteps.

    Without them nights stay grey (Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed,
    WACV 2024). The network predicts the image: a prediction of noise needs wider layers where the channels
    are pixels (Li and He, Back to Basics: Let Denoising Generative Models Denoise, 2025).
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="sample",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
    )


def train(
    worlds: list[World],
    folder: Path,
    target: Path,
    start: Path | None = None,
    steps: int = 12000,
    batch: int = BATCH,
    limits: Limits = AS_THE_RECIPE_SAYS,
) -> None:
    """Trains text encoder, UNet and ControlNet together and saves the pipeline to `target`.

    Begins with random weights, or with those of the pipeline in the folder `start`.
    """
    tokenizer = CLIPTokenizer.from_pretrained(start / "tokenizer") if start else None
    pairs = Pairs(worlds, folder, tokenizer)
    model = _open_networks(start) if start else _build_networks(pairs.tokenizer)
    observer = Observer()
    model["observer"] = observer
    noise_schedule = scheduler()
    signal = noise_schedule.alphas_cumprod.to(DEVICE)  # share of the image in the variance

    def loss(rng: np.random.Generator, share: float) -> torch.Tensor:
        picks = pairs.draw(rng, batch)
        images, masks = pairs.images(picks), pairs.masks(picks)
        tokens, control = pairs.captions(rng, picks), pairs.control(picks, masks)
        clean = SPACE.encode(images).latents * SPACE.config["scaling_factor"]
        times, noise = _draw_times(rng, batch), torch.randn_like(clean)
        noisy = noise_schedule.add_noise(clean, noise, times)
        chosen = torch.from_numpy(rng.random(batch) < PREDICTED_SHARE).to(DEVICE) & (times < PREDICTED_BELOW)
        if chosen.any():
            first = _predict_first(model, tokens[chosen], control[chosen], clean.shape[1:])
            noisy[chosen] = noise_schedule.add_noise(first, noise[chosen], times[chosen])
        predicted = _predict(model, noisy, times, tokens, control)
        weight = SPACE.encode(pixel_weights(masks).clamp(max=MAX_WEIGHT).expand(-1, 3, -1, -1)).latents
        time_weight = (1 / (1 - signal[times])).clamp(max=MAX_TIME_WEIGHT)[:, None, None, None]
        error = (weight * time_weight * (predicted - clean) ** 2).mean() / weight.mean()
        shown = torch.cat([(times == time).nonzero().flatten()[:most] for time, most in PICTURES.items()])
        if not len(shown):
            return error
        output = SPACE.decode(predicted[shown] / SPACE.config["scaling_factor"]).sample
        asks_observer = share >= PERCEPTUAL_PHASE
        return error + _picture_error(observer, images[shown], masks[shown], output, asks_observer)

    trained = fit(
        "diffusion",
        model,
        loss,
        folder=folder,
        steps=steps,
        lr=LEARNING_RATE,
        decay=0.0,
        average=0.998,
        muon=True,
        limits=limits,
    )
    _save(pairs.tokenizer, trained, target)


def _predict(
    model: nn.ModuleDict,
    noisy: torch.Tensor,
    times: torch.Tensor,
    tokens: torch.Tensor,
    control: torch.Tensor,
) -> torch.Tensor:
    """Returns the squares of pixels that the networks see behind noise."""
    states = model["text"](tokens).last_hidden_state
    down, mid = model["control"](noisy, times, states, control, return_dict=False)
    residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    output: torch.Tensor = model["unet"](noisy, times, states, **residuals).sample.float()
    return output


@torch.no_grad()
def _predict_first(
    model: nn.ModuleDict, tokens: torch.Tensor, control: torch.Tensor, shape: torch.Size
) -> torch.Tensor:
    """Returns what the first step of a sampler makes from noise, captions and control images."""
    noise = torch.randn(len(tokens), *shape, device=DEVICE)
    times = torch.full((len(tokens),), max(TIME_SHARES), device=DEVICE)
    return _predict(model, noise, times, tokens, control)


def _picture_error(
    observer: Observer,
    images: torch.Tensor,
    labels: torch.Tensor,
    output: torch.Tensor,
    asks_observer: bool,
) -> torch.Tensor:
    """Returns the error of pixels and of what the observer reads, which learns to read the true images."""
    weight = pixel_weights(labels)
    reading = observer(images)
    error = (weight * F.nll_loss(reading, labels, reduction="none")[:, None]).mean()
    error = error + PICTURE_WEIGHT * reconstruction_error(images, output, weight)
    if asks_observer:
        error = error + PERCEPTUAL_WEIGHT * perceptual_error(observer, reading.detach(), output, weight)
    return error


def _open_networks(folder: Path) -> nn.ModuleDict:
    text = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").float()
    control = ControlNetModel.from_pretrained(folder / "controlnet").float()
    return nn.ModuleDict({"text": text, "unet": unet, "control": control})


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
        sample_size=(HEIGHT // SPACE.side, WIDTH // SPACE.side),
        out_channels=CHANNELS,
        down_block_types=DOWN_BLOCKS,
        up_block_types=UP_BLOCKS,
        **NETWORK_SIZES,
    )
    control = ControlNetModel(
        down_block_types=DOWN_BLOCKS,
        conditioning_embedding_out_channels=(16, 32, 64),
        **NETWORK_SIZES,
    )
    # Zero convolutions protect a pretrained UNet; where all is trained from scratch they only delay it.
    embedding = control.controlnet_cond_embedding.conv_out
    for conv in (*control.controlnet_down_blocks, control.controlnet_mid_block, embedding):
        nn.init.xavier_uniform_(conv.weight, gain=0.3)
    return nn.ModuleDict({"text": text, "unet": unet, "control": control})


def _draw_times(rng: np.random.Generator, batch: int) -> torch.Tensor:
    """Returns a timestep for each of a batch; as many as possible have each, so that the loss varies less."""
    positions = (rng.permutation(batch) + rng.random(batch)) / batch
    indices = np.searchsorted(np.cumsum(list(TIME_SHARES.values()))[:-1], positions)
    return torch.tensor(list(TIME_SHARES), device=DEVICE)[torch.from_numpy(indices).to(DEVICE)]


def _save(tokenizer: CLIPTokenizer, networks: nn.ModuleDict, target: Path) -> None:
    StableDiffusionControlNetPipeline(
        vae=PixelSpace(),  # in place of an autoencoder
        text_encoder=networks["text"].half(),
        tokenizer=tokenizer,
        unet=networks["unet"].half(),
        controlnet=networks["control"].half(),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(target)
