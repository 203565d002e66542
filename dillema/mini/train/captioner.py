"""The captioner: a SegFormer encoder and a GPT-2 decoder, in transformers' VisionEncoderDecoder format.

The encoder has convolutions beside its attention: without them it often names the wrong kind of vehicle.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import (
    GPT2Config,
    PreTrainedTokenizerFast,
    SegformerConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTImageProcessor,
)

from ..scene import COLOURS, HEIGHT, TIMES, VEHICLE_KINDS, WEATHERS, WIDTH
from .loop import AS_THE_RECIPE_SAYS, DEVICE, ON_GPU, Limits, fit, gather, on_device, pixels
from .text import BEGIN_ID, END_ID, MAX_TOKENS, PAD_ID, caption_tokenizer
from .world import World, draw_batch

BATCH = 128 if ON_GPU else 32
IGNORED_LABEL = -100  # of torch's cross-entropy


def train(
    worlds: list[World],
    folder: Path,
    target: Path,
    start: Path | None = None,
    steps: int = 4000,
    batch: int = BATCH,
    limits: Limits = AS_THE_RECIPE_SAYS,
) -> None:
    """Trains the captioner with teacher forcing and saves it to `target`, with what it needs to run.

    Begins with random weights, or with those of the captioner in the folder `start`. Half of the images are
    mirrored, which changes no caption.
    """
    captions = [[row["caption"] for row in world.rows] for world in worlds]
    if start:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(start)
        model = VisionEncoderDecoderModel.from_pretrained(start).float()
    else:
        tokenizer = caption_tokenizer([text for texts in captions for text in texts])
        model = build(len(tokenizer))
    weight = torch.ones(len(tokenizer), device=DEVICE)
    # they matter most, and are few of the words
    for value in (*COLOURS, *TIMES, *WEATHERS, *VEHICLE_KINDS):
        weight[tokenizer(value, add_special_tokens=False).input_ids] = 4.0
    padding: Any = {"padding": "max_length", "max_length": MAX_TOKENS, "return_tensors": "pt"}
    tokens = [tokenizer(texts, **padding).input_ids.to(DEVICE) for texts in captions]
    pictures = [on_device(world.images) for world in worlds]

    def loss(rng: np.random.Generator, share: float) -> torch.Tensor:
        picks = draw_batch(rng, worlds, batch)
        images, texts = pixels(gather(pictures, picks)), gather(tokens, picks)
        is_mirrored = torch.rand(batch, 1, 1, 1, device=DEVICE) < 0.5
        images = torch.where(is_mirrored, images.flip(3), images)
        labels = texts[:, 1:].masked_fill(texts[:, 1:] == PAD_ID, IGNORED_LABEL)
        logits = model(pixel_values=images, decoder_input_ids=texts[:, :-1]).logits
        return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), weight)

    trained = fit("captioner", model, loss, folder=folder, steps=steps, lr=2e-3, muon=True, limits=limits)
    generation = trained.generation_config
    generation.decoder_start_token_id = generation.bos_token_id = BEGIN_ID
    generation.pad_token_id, generation.eos_token_id = PAD_ID, END_ID
    generation.max_length = MAX_TOKENS
    trained.half().save_pretrained(target)
    tokenizer.save_pretrained(target)
    image_processor().save_pretrained(target)


def build(vocabulary_size: int) -> VisionEncoderDecoderModel:
    """Returns an untrained captioner."""
    encoder = SegformerConfig(
        depths=[1, 1, 2, 1],
        sr_ratios=[8, 4, 2, 1],
        hidden_sizes=[32, 64, 128, 256],
        patch_sizes=[7, 3, 3, 3],
        strides=[4, 2, 2, 2],
        num_attention_heads=[1, 2, 4, 8],
        mlp_ratios=[4, 4, 4, 4],
        drop_path_rate=0.0,
        reshape_last_stage=False,  # the decoder reads a sequence
        hidden_size=256,  # of the last stage
    )
    decoder = GPT2Config(
        vocab_size=vocabulary_size,
        n_positions=MAX_TOKENS,
        n_embd=128,
        n_layer=2,
        n_head=4,
        is_decoder=True,
        add_cross_attention=True,
        bos_token_id=BEGIN_ID,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = BEGIN_ID, PAD_ID, END_ID
    return VisionEncoderDecoderModel(config)


def image_processor() -> ViTImageProcessor:
    """Returns the preprocessing of every small model: 256x160 pixels, -1..1."""
    size = {"height": HEIGHT, "width": WIDTH}
    return ViTImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
