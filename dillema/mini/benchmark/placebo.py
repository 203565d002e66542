"""What the generator alone costs the model under test, when nothing in the caption has changed."""

from collections.abc import Iterator, Sequence

import numpy as np
from omegaconf import DictConfig

from ...config import build
from ...dataset.mini import MiniShift
from ...metrics import iou_per_class
from .measures import CLEAR_DAYS, confusion_matrices, load_model, paint, total_iou
from .rows import Row

SCENES = 100


def measure_placebo(cfg: DictConfig) -> Iterator[Row]:
    """Yields the placebo gap: clear validation days against the same painted from their own captions."""
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
    images = {"original": originals, "placebo": placebos}
    matrices = {name: confusion_matrices(model, part, masks) for name, part in images.items()}
    iou = {name: total_iou(part) for name, part in matrices.items()}
    classes = {name: _class_iou(part.sum(0), dataset.classes) for name, part in matrices.items()}
    gap = iou["original"] - iou["placebo"]
    yield Row(
        "placebo",
        f"{SCENES} clear validation days, and the same painted from their unchanged captions",
        f"mean IoU {iou['original']:.3f} -> {iou['placebo']:.3f}: {100 * gap:.1f} points",
        "5 points (an aim)",
        None,
        {"mean_iou": iou, "gap": gap, "classes": classes},
    )


def _class_iou(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Returns the IoU of each class that occurs."""
    iou = iou_per_class(np.diagonal(matrix), matrix.sum(1), matrix.sum(0))
    return {name: float(value) for name, value in zip(classes, iou, strict=True) if not np.isnan(value)}
