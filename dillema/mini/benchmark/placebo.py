"""What the generator alone costs the model under test, when nothing in the caption has changed."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from omegaconf import DictConfig
from PIL import Image

from ...config import build
from ...dataset.mini import MiniShift
from ...metrics import iou_per_class
from .measures import BATCH_SIZE, confusion_matrices, load_model, paint, total_iou
from .rows import Row

SCENES = 100
CLEAR_DAYS = {"weather": ["clear"], "time of day": ["daytime"]}


def measure_placebo(cfg: DictConfig) -> Iterator[Row]:
    """Yields the placebo gap: clear validation days against the same scenes painted from their own captions.

    The autoencoder's share is the loss on images that were only encoded and decoded.
    """
    dataset = MiniShift(split="val", limit=SCENES, where=CLEAR_DAYS)
    samples = dataset.samples()
    originals, masks = [sample.image for sample in samples], [np.asarray(sample.mask) for sample in samples]
    captioner = build(cfg.captioner)
    captioner.load()
    texts = []
    for start in range(0, SCENES, captioner.batch_size):
        batch = samples[start : start + captioner.batch_size]
        texts += [caption.text for caption in captioner.caption(batch, dataset, [0] * len(batch))]
    placebos, _ = paint(cfg, dataset, samples, texts)
    model = load_model(cfg)
    images = {"original": originals, "autoencoder": _encode_and_decode(cfg, originals), "placebo": placebos}
    matrices = {name: confusion_matrices(model, part, masks) for name, part in images.items()}
    iou = {name: total_iou(part) for name, part in matrices.items()}
    classes = {name: _class_iou(part.sum(0), dataset.classes) for name, part in matrices.items()}
    gap, autoencoder_gap = (iou["original"] - iou[name] for name in ("placebo", "autoencoder"))
    yield Row(
        "placebo",
        f"{SCENES} clear validation days, and the same painted from their unchanged captions",
        f"mean IoU {iou['original']:.3f} -> {iou['placebo']:.3f}: {100 * gap:.1f} points, "
        f"{100 * autoencoder_gap:.1f} of them the autoencoder's",
        "5 points (an aim)",
        None,
        {"mean_iou": iou, "gap": gap, "autoencoder_gap": autoencoder_gap, "classes": classes},
    )


def _encode_and_decode(cfg: DictConfig, images: Sequence[Image.Image]) -> list[Image.Image]:
    """Returns the images as the generator's autoencoder gives them back, without noise."""
    vae = AutoencoderKL.from_pretrained(cfg.generator.model, subfolder="vae", dtype=torch.float32)
    decoded: list[Image.Image] = []
    for start in range(0, len(images), BATCH_SIZE):
        pixels = np.stack([np.asarray(image) for image in images[start : start + BATCH_SIZE]])
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            output = vae.decode(vae.encode(values).latent_dist.mean).sample
        rounded = ((output.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        decoded += [Image.fromarray(image) for image in rounded]
    return decoded


def _class_iou(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Returns the IoU of each class that occurs."""
    iou = iou_per_class(np.diagonal(matrix), matrix.sum(1), matrix.sum(0))
    return {name: float(value) for name, value in zip(classes, iou, strict=True) if not np.isnan(value)}
