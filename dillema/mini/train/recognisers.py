"""The models that look at pictures: segmenters, the classifier under test, and the reader of attributes."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F
from transformers import (
    ConvNextConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from ..scene import COLOURS, KINDS, TIMES, WEATHERS
from .captioner import image_processor
from .loop import DEVICE, fit, pixels
from .world import World

LABELS = 23
ATTRIBUTES: dict[str, tuple[str, ...]] = {"weather": WEATHERS, "time_of_day": TIMES, "colour": COLOURS}


def segformer() -> SegformerForSemanticSegmentation:
    """Returns an untrained SegFormer that works at half the size of the picture, so that poles survive."""
    return SegformerForSemanticSegmentation(
        SegformerConfig(
            depths=[1, 1, 2, 1],
            sr_ratios=[8, 4, 2, 1],
            hidden_sizes=[24, 48, 96, 128],
            patch_sizes=[5, 3, 3, 3],
            strides=[2, 2, 2, 2],
            num_attention_heads=[1, 2, 3, 4],
            mlp_ratios=[2, 2, 4, 4],
            decoder_hidden_size=64,
            num_labels=LABELS,
            drop_path_rate=0.0,
            classifier_dropout_prob=0.0,
        )
    )


def upernet() -> UperNetForSemanticSegmentation:
    """Returns an untrained UperNet over ConvNeXt, at half the size of the picture."""
    backbone = ConvNextConfig(hidden_sizes=[24, 48, 96, 128], depths=[1, 1, 2, 1], patch_size=2, out_features=["stage1", "stage2", "stage3", "stage4"])
    return UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=backbone, hidden_size=32, pool_scales=[1, 2, 4], use_auxiliary_head=False, num_labels=LABELS)
    )


def resnet(labels: int) -> ResNetForImageClassification:
    """Returns an untrained residual network of four stages."""
    return ResNetForImageClassification(
        ResNetConfig(embedding_size=24, hidden_sizes=[32, 64, 128, 192], depths=[1, 1, 1, 1], layer_type="basic", num_labels=labels)
    )


def jitter(images: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Returns the images, uint8, with changed contrast and brightness, every other one blurred: as any camera and any decoder may do."""
    changed = []
    for image in images:
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.6))
        gain, shift = rng.uniform(0.8, 1.2), rng.uniform(-20, 20)
        changed.append(np.clip(image * gain + shift, 0, 255).astype(np.uint8))
    return np.stack(changed)


def train_segmenter(
    name: str, build: Callable[[], PreTrainedModel], worlds: list[World], folder: Path, target: Path, steps: int = 4000, batch: int = 8
) -> None:
    """Trains a segmenter with cross-entropy on crops, small classes weighted up, and saves it to `target`."""
    weight = torch.ones(LABELS)
    weight[[4, 5, 6]] = 2.0  # pedestrians, poles and road lines are thin
    crop = (160, 160)

    model = build()

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        images, masks = [], []
        for k in rng.integers(len(worlds), size=batch):
            i, x = int(rng.integers(len(worlds[k]))), int(rng.integers(97))
            images.append(worlds[k].images[i, :, x : x + crop[1]])
            masks.append(worlds[k].masks[i, :, x : x + crop[1]])
        logits = model(pixel_values=pixels(jitter(images, rng))).logits.float()
        target_ids = torch.from_numpy(np.stack(masks)).long().to(DEVICE)
        logits = F.interpolate(logits, size=crop, mode="bilinear", align_corners=False)
        return F.cross_entropy(logits, target_ids, weight=weight.to(DEVICE))

    save(fit(name, model, loss, folder=folder, steps=steps, lr=2e-3), target)


def train_classifier(
    name: str, attributes: dict[str, tuple[str, ...]], worlds: list[World], folder: Path, target: Path, steps: int = 1500, batch: int = 32
) -> None:
    """Trains one network with one softmax for each attribute (its logits side by side) and saves it to `target`."""
    model = resnet(sum(len(values) for values in attributes.values()))
    names = [value for values in attributes.values() for value in values]
    model.config.id2label, model.config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}

    def loss(rng: np.random.Generator, step: int) -> torch.Tensor:
        picks = [(worlds[k], int(rng.integers(len(worlds[k])))) for k in rng.integers(len(worlds), size=batch)]
        logits = model(pixel_values=pixels(jitter([w.images[i] for w, i in picks], rng))).logits.float()
        parts = logits.split([len(v) for v in attributes.values()], 1)
        wanted = [torch.tensor([values.index(w.rows[i][a]) for w, i in picks], device=DEVICE) for a, values in attributes.items()]
        return torch.stack([F.cross_entropy(p, t) for p, t in zip(parts, wanted, strict=True)]).sum()

    save(fit(name, model, loss, folder=folder, steps=steps, lr=2e-3), target)


def save(model: PreTrainedModel, target: Path) -> None:
    """Writes the model in half precision, with its preprocessing."""
    model.half().save_pretrained(target)
    image_processor().save_pretrained(target)


KIND: dict[str, tuple[str, ...]] = {"kind": KINDS}
