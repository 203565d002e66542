"""The generator: Stable Diffusion with a ControlNet, in the space of pixels, for samplers of two steps.

The ControlNet reads the mask and the local contrast of a source: another render of the same scene
(`conditioning=segmentation_detail`). The first step makes the picture from captions and control images, the
second one mends it behind little noise. Noise and images are coupled, so that streaks, flakes and lit windows
are learnt.

The generator in the package was trained on from an earlier one, which painted latents of an autoencoder and
lost thin objects in them: the inner layers were kept.
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
from .observer import Observer, train_clear_day_observer
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
BATCH = 128 if ON_GPU else 8
LEARNING_RATE = 2e-3 if ON_GPU else 1e-3  # larger batches bear larger steps
FIRST, LAST = 999, 499  # timesteps of a sampler of two steps; half of a batch has each
SQUARED_WEIGHT = 2.0  # of the squared error of pixels
PERCEPTUAL_WEIGHT = 0.4  # for each of the two observers
# Share of the training at whose end the observer knows enough to be asked. Until then streaks and flakes
# weigh more, so that the networks learn to see in the noise where they are before they learn to ignore it.
FIRST_PHASE = 0.1
PRECIPITATION_WEIGHTS = (60.0, 20.0, 0.0)  # in the first phase, later and at last: added where they are
LAST_PHASE = 0.75  # the share from which on they weigh no more than other pixels: else all is hazy with them


def scheduler() -> DDIMScheduler:
    """Returns the noise schedule: zero terminal signal-to-noise ratio, trailing timesteps, late noise.

    Without them nights stay grey (Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed,
    WACV 2024). Half-way most of the variance (0.72) is that of the image, so that the second of two steps
    sees what the first one painted. The network predicts the image: a prediction of noise needs wider layers
    where the channels are pixels (Li and He, Back to Basics: Let Denoising Generative Models Denoise, 2025).
    """
    return DDIMScheduler(
        beta_start=1e-6,
        beta_end=0.002,
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
    model["observer"] = observer = Observer()
    clear_day_observer = train_clear_day_observer(worlds, folder, limits)
    noise_schedule = scheduler()

    def loss(rng: np.random.Generator, share: float) -> torch.Tensor:
        picks = pairs.draw(rng, batch)
        images, masks = pairs.images(picks), pairs.masks(picks)
        tokens, control = pairs.captions(rng, picks), pairs.control(picks, masks)
        noisy = SPACE.encode(pairs.noise(picks)).latents  # all that is left of an image at the first step
        is_last = torch.from_numpy(rng.permutation(batch) < batch // 2).to(DEVICE)
        times = torch.where(is_last, LAST, FIRST)
        with torch.no_grad():
            first = _predict(model, noisy[is_last], FIRST, tokens[is_last], control[is_last])
        # a sampler without new noise keeps that of its first step
        noisy[is_last] = noise_schedule.add_noise(first, noisy[is_last], times[is_last])
        predicted = _predict(model, noisy, times, tokens, control)
        output = SPACE.decode(predicted / SPACE.config["scaling_factor"]).sample
        phase = (share >= FIRST_PHASE) + (share >= LAST_PHASE)
        precipitation = PRECIPITATION_WEIGHTS[phase] * pairs.cover(picks)
        weight = pixel_weights(masks) + precipitation
        error = SQUARED_WEIGHT * (weight * (output - images) ** 2).mean()
        error = error + reconstruction_error(images, output, weight)
        shown = images[is_last], masks[is_last], output[is_last]
        error = error + _seen_error(clear_day_observer, *shown)
        return error + _observed_error(observer, *shown, share)

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
    times: torch.Tensor | int,
    tokens: torch.Tensor,
    control: torch.Tensor,
) -> torch.Tensor:
    """Returns the squares of pixels that the networks see behind noise."""
    states = model["text"](tokens).last_hidden_state
    down, mid = model["control"](noisy, times, states, control, return_dict=False)
    residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    output: torch.Tensor = model["unet"](noisy, times, states, **residuals).sample.float()
    return output


def _seen_error(
    observer: Observer, images: torch.Tensor, labels: torch.Tensor, output: torch.Tensor
) -> torch.Tensor:
    """Returns the error of what an observer that has learnt before reads in an output."""
    with torch.no_grad():
        reading = observer(images)
    return PERCEPTUAL_WEIGHT * perceptual_error(observer, reading, output, pixel_weights(labels))


def _observed_error(
    observer: Observer, images: torch.Tensor, labels: torch.Tensor, output: torch.Tensor, share: float
) -> torch.Tensor:
    """Returns the error of what the observer reads in an output; it learns to read the true images."""
    weight = pixel_weights(labels)
    reading = observer(images)
    error = (weight * F.nll_loss(reading, labels, reduction="none")[:, None]).mean()
    if share < FIRST_PHASE:
        return error
    return error + PERCEPTUAL_WEIGHT * perceptual_error(observer, reading.detach(), output, weight)


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


def _save(tokenizer: CLIPTokenizer, networks: nn.ModuleDict, target: Path) -> None:
    for name in ("unet", "control"):  # else the folder that they were opened from would be saved
        networks[name].register_to_config(_name_or_path="")  # type: ignore[operator]  # of diffusers
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
