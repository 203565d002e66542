"""The models that look at images: segmenters, the classifier under test, and the readers of attributes."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from ..render import PEDESTRIAN, POLE, ROAD_LINE
from ..scene import COLOURS, TIMES, VEHICLE_KINDS, WEATHERS, WIDTH
from .captioner import image_processor
from .loop import AS_THE_RECIPE_SAYS, DEVICE, Limits, fit, pixels
from .world import World, draw_batch

CLASS_COUNT = 23  # of SHIFT
CROP_SIZE = 160  # pixels; the height of the images
Attributes = dict[str, tuple[str, ...]]
"""The values of each attribute, which is a key of a world's rows."""

CLASSIFIER_ATTRIBUTES: Attributes = {"kind": VEHICLE_KINDS}
READER_ATTRIBUTES: Attributes = {"weather": WEATHERS, "time_of_day": TIMES, "colour": COLOURS}


def segformer() -> SegformerForSemanticSegmentation:
    """Returns an untrained SegFormer that works at half the size of the image, so that poles survive."""
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
            num_labels=CLASS_COUNT,
            drop_path_rate=0.0,
            classifier_dropout_prob=0.0,
        )
    )


def upernet() -> UperNetForSemanticSegmentation:
    """Returns an untrained UperNet over ConvNeXt, at half the size of the image."""
    backbone = ConvNextConfig(
        hidden_sizes=[24, 48, 96, 128],
        depths=[1, 1, 2, 1],
        patch_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return UperNetForSemanticSegmentation(
        UperNetConfig(
            backbone_config=backbone,
            hidden_size=32,
            pool_scales=[1, 2, 4],
            use_auxiliary_head=False,
            num_labels=CLASS_COUNT,
        )
    )


def resnet(labels: int) -> ResNetForImageClassification:
    """Returns an untrained residual network of four stages."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=24,
            hidden_sizes=[32, 64, 128, 192],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            num_labels=labels,
        )
    )


def convnext(labels: int) -> ConvNextForImageClassification:
    """Returns an untrained ConvNeXt of 0.7 million parameters."""
    return ConvNextForImageClassification(
        ConvNextConfig(
            patch_size=8,
            hidden_sizes=[32, 64, 128, 160],
            depths=[1, 1, 2, 1],
            layer_scale_init_value=0.0,
            num_labels=labels,
        )
    )


def jitter(images: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Returns the uint8 images with changed contrast and brightness, about half of them blurred.

    Cameras and decoders of generators differ in these.
    """
    changed = []
    for image in images:
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.6))
        gain, shift = rng.uniform(0.8, 1.2), rng.uniform(-20, 20)
        changed.append(np.clip(image * gain + shift, 0, 255).astype(np.uint8))
    return np.stack(changed)


def train_segmenter(
    name: str,
    build: Callable[[], PreTrainedModel],
    worlds: list[World],
    folder: Path,
    target: Path,
    steps: int = 4000,
    batch: int = 8,
    limits: Limits = AS_THE_RECIPE_SAYS,
) -> None:
    """Trains a segmenter with cross-entropy on crops and saves it to `target`."""
    class_weights = torch.ones(CLASS_COUNT)
    class_weights[[PEDESTRIAN, POLE, ROAD_LINE]] = 2.0  # thin, so that few pixels are theirs
    model = build()

    def loss(rng: np.random.Generator, share: float) -> torch.Tensor:
        images, masks = [], []
        for k in rng.integers(len(worlds), size=batch):
            i, left = int(rng.integers(len(worlds[k]))), int(rng.integers(WIDTH - CROP_SIZE + 1))
            images.append(worlds[k].images[i, :, left : left + CROP_SIZE])
            masks.append(worlds[k].masks[i, :, left : left + CROP_SIZE])
        logits = model(pixel_values=pixels(jitter(images, rng))).logits.float()
        labels = torch.from_numpy(np.stack(masks)).long().to(DEVICE)
        logits = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
        return F.cross_entropy(logits, labels, weight=class_weights.to(DEVICE))

    _save(fit(name, model, loss, folder=folder, steps=steps, lr=2e-3, limits=limits), target)


def train_classifier(
    name: str,
    attributes: Attributes,
    worlds: list[World],
    folder: Path,
    target: Path,
    steps: int = 1500,
    batch: int = 32,
    build: Callable[[int], PreTrainedModel] = resnet,
    limits: Limits = AS_THE_RECIPE_SAYS,
) -> None:
    """Trains a network with one softmax for each attribute, logits side by side, and saves it to `target`."""
    labels = [value for values in attributes.values() for value in values]
    model = build(len(labels))
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}
    widths = [len(values) for values in attributes.values()]

    def loss(rng: np.random.Generator, share: float) -> torch.Tensor:
        picks = draw_batch(rng, worlds, batch)
        images = jitter([worlds[k].images[i] for k, i in picks], rng)
        rows = [worlds[k].rows[i] for k, i in picks]
        logits = model(pixel_values=pixels(images)).logits.float().split(widths, 1)
        losses = []
        for part, (attribute, values) in zip(logits, attributes.items(), strict=True):
            truth = torch.tensor([values.index(row[attribute]) for row in rows], device=DEVICE)
            losses.append(F.cross_entropy(part, truth))
        return torch.stack(losses).sum()

    _save(fit(name, model, loss, folder=folder, steps=steps, lr=2e-3, limits=limits), target)


def _save(model: PreTrainedModel, target: Path) -> None:
    """Writes the model in half precision, with its preprocessing."""
    model.half().save_pretrained(target)
    image_processor().save_pretrained(target)
