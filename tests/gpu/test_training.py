"""Evaluation and training by Lightning on one device."""

import numpy as np
import pytest

from dillema.evaluation import evaluate
from dillema.model.transformers import TransformersClassification, TransformersSegmentation
from dillema.retraining.training import Schedule, Source, train
from tests import tiny
from tests.gpu.small import DEVICE, assert_on_device

pytestmark = pytest.mark.gpu

STEPS = 20
CLASSIFICATION = tiny.dataset("classification", classes=tuple("abcdef"), ignored=frozenset())


def mask(seed):
    return np.random.default_rng(seed).integers(0, 23, tiny.SIZE[::-1], np.uint8)


def load(task, folder, device=DEVICE):
    is_classification = task == "classification"
    kind = TransformersClassification if is_classification else TransformersSegmentation
    checkpoint = tiny.classifier(folder) if is_classification else tiny.segmenter(folder)
    model = kind("m", checkpoint, device=device)
    model.load()
    return model


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_an_evaluation_gives_the_records_of_the_cpu(task, tmp_path):
    is_classification = task == "classification"
    dataset = CLASSIFICATION if is_classification else tiny.dataset()
    items = [
        (f"k{i}", lambda i=i: tiny.image(i), lambda i=i: i % 6 if is_classification else mask(i))
        for i in range(7)
    ]
    on_device, on_cpu = (
        evaluate(load(task, tmp_path, device), items, dataset, batch_size=3, devices=1)
        for device in (DEVICE, "cpu")
    )
    assert list(on_device) == list(on_cpu) == [f"k{i}" for i in range(7)]
    for key, record in on_device.items():
        assert record["confidence"] == pytest.approx(on_cpu[key]["confidence"], abs=0.01)


@pytest.mark.parametrize("arm", ["originals", "counterfactuals", "augmentation"])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_model_is_trained_further(task, arm, tmp_path):
    is_classification = task == "classification"
    dataset = CLASSIFICATION if is_classification else tiny.dataset()
    model = load(task, tmp_path)
    before = [weights.detach().cpu().clone() for weights in model.module.parameters()]
    sources = [
        Source(
            lambda i=i: tiny.image(i),
            lambda i=i: i if is_classification else mask(i),
            [lambda i=i: tiny.image(100 + i)],
        )
        for i in range(6)
    ]
    took = train(model, sources, dataset, arm, Schedule(STEPS, 4, 1e-2, 0.5), seed=0)
    assert took.steps == STEPS and sum(took.drawn.values()) == 4 * STEPS
    assert took.loss[1] < took.loss[0]
    assert_on_device(model.module)
    after = [weights.detach().cpu() for weights in model.module.parameters()]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
