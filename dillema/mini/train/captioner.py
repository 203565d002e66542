"""The captioner: a Swin encoder and a GPT-2 decoder, in transformers' VisionEncoderDecoder format."""

from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, SwinConfig, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTImageProcessor

from ..scene import COLOURS, HEIGHT, TIMES, WEATHERS, WIDTH
from .loop import DEVICE, fit, pixels
from .text import MAX_TOKENS, caption_tokenizer
from .world import World


def train(worlds: list[World], folder: Path, target: Path, steps: int = 7000, batch: int = 32) -> None:
    """Trains the captioner with teacher forcing and saves it, its tokenizer and its image processor to `target`."""
    captions = [row["caption"] for w in worlds for row in w.rows]
    tokenizer = caption_tokenizer(captions)
    encoder = SwinConfig(image_size=(HEIGHT, WIDTH), patch_size=8, embed_dim=48, depths=(2, 2, 2), num_heads=(2, 4, 8), window_size=4, drop_path_rate=0.0)
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=MAX_TOKENS,
        n_embd=128,
        n_layer=2,
        n_head=4,
        is_decoder=True,
        add_cross_attention=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    model = VisionEncoderDecoderModel(config)

    weight = torch.ones(len(tokenizer), device=DEVICE)
    for value in (*COLOURS, *TIMES, *WEATHERS):  # few of the words, and the ones that matter
        weight[tokenizer(value, add_special_tokens=False).input_ids] = 4.0

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        picks = [(worlds[k], int(rng.integers(len(worlds[k])))) for k in rng.integers(len(worlds), size=batch)]
        images = pixels(np.stack([w.images[i] for w, i in picks]))
        tokens = tokenizer([w.rows[i]["caption"] for w, i in picks], padding=True, return_tensors="pt").input_ids.to(DEVICE)
        labels = tokens[:, 1:].masked_fill(tokens[:, 1:] == 0, -100)
        logits = model(pixel_values=images, decoder_input_ids=tokens[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), weight)

    trained = fit("captioner", model, loss, folder=folder, steps=steps, lr=1e-3)
    generation = trained.generation_config
    generation.decoder_start_token_id, generation.bos_token_id, generation.pad_token_id, generation.eos_token_id = 1, 1, 0, 2
    generation.max_length = MAX_TOKENS
    trained.half().save_pretrained(target)
    tokenizer.save_pretrained(target)
    image_processor().save_pretrained(target)


def image_processor() -> ViTImageProcessor:
    """Returns the preprocessing of every small model: 256x160 pixels, -1..1."""
    return ViTImageProcessor(size={"height": HEIGHT, "width": WIDTH}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
