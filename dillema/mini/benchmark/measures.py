"""What the parts about images share: painting, and the measurement of images by models."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from ...backend import Model
from ...config import build
from ...dataset.mini import FIELDS, VALUES, MiniShift
from ...dataset.shift import IGNORED
from ...metrics import confusion_matrix, mean_iou
from ...types import Counterfactual, Sample
from ..scene import Appearance
from ..train.recognisers import CLASS_COUNT

READER = Path(__file__).parent.parent / "weights" / "reader"
BATCH_SIZE = 20
CLEAR_DAYS = {"weather": ["clear"], "time of day": ["daytime"]}  # of sources, as in `dataset=mini_shift`


def paint(
    cfg: DictConfig, dataset: MiniShift, samples: Sequence[Sample], texts: Sequence[str]
) -> tuple[list[Image.Image], float]:
    """Returns one image for each text, generated over its sample, and the seconds that the generator took."""
    generator, conditioning = build(cfg.generator), build(cfg.conditioning)
    generator.load()
    size = (generator.width, generator.height)
    images: list[Image.Image] = []
    seconds = 0.0
    for start in range(0, len(samples), generator.batch_size):
        batch = samples[start : start + generator.batch_size]
        counterfactuals = [Counterfactual(text, ()) for text in texts[start : start + len(batch)]]
        controls = [{conditioning.name: conditioning.control(sample, dataset, size)} for sample in batch]
        start_time = time.perf_counter()
        generated = generator.generate(batch, counterfactuals, controls, range(start, start + len(batch)))
        seconds += time.perf_counter() - start_time
        for image in generated:
            if isinstance(image, Exception):
                raise image
            images.append(image)
    return images, seconds


def see_attributes(images: Sequence[Image.Image]) -> dict[str, list[str]]:
    """Returns the value of each attribute that a classifier trained on renders sees in each image."""
    processor = AutoImageProcessor.from_pretrained(READER)
    reader = AutoModelForImageClassification.from_pretrained(READER, dtype=torch.float32)
    batches = [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]
    with torch.inference_mode():
        logits = torch.cat(
            [reader(**processor(list(batch), return_tensors="pt")).logits for batch in batches]
        )
    parts = logits.split([len(values) for values in VALUES.values()], 1)
    return {
        attribute: [values[i] for i in part.argmax(1).tolist()]
        for (attribute, values), part in zip(VALUES.items(), parts, strict=True)
    }


def read_attributes(images: Sequence[Image.Image], expected: Sequence[Appearance]) -> dict[str, float]:
    """Returns how often a classifier trained on renders sees the expected value of each attribute."""
    rates = {}
    for attribute, seen in see_attributes(images).items():
        expected_values = [getattr(appearance, FIELDS[attribute]) for appearance in expected]
        rates[attribute] = float(np.mean([a == b for a, b in zip(seen, expected_values, strict=True)]))
    return rates


def confusion_matrices(
    model: Model, images: Sequence[Image.Image], masks: Sequence[np.ndarray]
) -> np.ndarray:
    """Returns a confusion matrix for each image (images, classes, classes) of a segmenter that is loaded."""
    matrices = np.zeros((len(images), CLASS_COUNT, CLASS_COUNT), np.int64)
    for start in range(0, len(images), BATCH_SIZE):
        logits = model.predict(images[start : start + BATCH_SIZE])
        for i, predicted in enumerate(logits, start):
            matrix = confusion_matrix(masks[i], predicted.argmax(0).numpy(), IGNORED)
            matrices[i, : len(matrix), : len(matrix)] = matrix
    return matrices


def total_iou(matrices: np.ndarray) -> float:
    """Returns the mean IoU over the pixels of all images."""
    return float(mean_iou(matrices.sum(0)))


def load_model(cfg: DictConfig) -> Model:
    """Returns the model under test of the default configuration, loaded."""
    (model,) = (build(block) for block in cfg.model.values())
    model.load()
    loaded: Model = model
    return loaded
