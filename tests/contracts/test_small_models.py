"""For the small models as shipped, on a CPU: neither the batch nor the number of cores changes a byte."""

from functools import partial

import pytest
import torch
from PIL import Image

from dillema.config import build
from dillema.dataset.mini import MiniImageNet, MiniShift
from dillema.types import Counterfactual, Edit
from tests.test_config import composed

COUNT = 5  # no multiple of the batch sizes below
FOGGY = Counterfactual("a foggy street", (Edit("weather", "clear", "foggy"),), caption="a clear street")


def as_bytes(result):
    """Returns a result in a form in which every bit counts."""
    if isinstance(result, torch.Tensor):
        return result.numpy().tobytes()
    if isinstance(result, dict):
        return repr(result)
    return result.tobytes() if hasattr(result, "tobytes") else result.text


def assert_batch_changes_nothing(work, items):
    """Asserts that results are the same bytes alone, in batches of 2 and of 4, reversed, and on two cores."""
    cores = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = [as_bytes(result) for item in items for result in work([item])]
        assert len(set(expected)) > 1
        torch.set_num_threads(2)
        for size in (2, 4):
            batches = [items[start : start + size] for start in range(0, len(items), size)]
            assert [as_bytes(result) for batch in batches for result in work(batch)] == expected
        assert [as_bytes(result) for result in work(items[::-1])] == expected[::-1]
    finally:
        torch.set_num_threads(cores)


def loaded(block):
    backend = build(block)
    backend.load()
    return backend


@pytest.fixture(scope="module")
def streets():
    return MiniShift(split="test", limit=COUNT)


def test_captions(streets):
    captioner = loaded(composed().captioner)
    work = lambda samples: captioner.caption(samples, streets, [0] * len(samples))  # noqa: E731
    assert_batch_changes_nothing(work, streets.samples())


def test_scores_of_gates(streets):
    samples = streets.samples()
    items = [(sample, FOGGY, sample.image) for sample in samples]

    def work(gate, batch):
        return gate.score(*map(list, zip(*batch, strict=True)), streets)

    for name in ("segmenter", "reader"):
        gate = loaded(composed().validity[name])
        assert_batch_changes_nothing(partial(work, gate), items)


def test_predictions(streets):
    segmenter = loaded(composed().model.mini_segformer)
    assert_batch_changes_nothing(segmenter.predict, [sample.image for sample in streets.samples()])
    classifier = loaded(composed("dataset=mini_imagenet").model.mini_resnet)
    photographs = MiniImageNet(split="test", limit=COUNT).samples()
    assert_batch_changes_nothing(classifier.predict, [sample.image for sample in photographs])


def test_distances_of_sets(streets):
    images = [sample.image for sample in streets.samples()]
    others = [image.transpose(0) for image in images]

    def measure(batch_size):
        quality = loaded(composed("quality=mini", f"quality.batch_size={batch_size}").quality)
        return quality.distance(*([partial(Image.Image.copy, i) for i in side] for side in (images, others)))

    assert measure(1) == measure(2) == measure(4)


@pytest.mark.slow
def test_generated_images(streets):
    cfg = composed()
    generator, conditioning = loaded(cfg.generator), build(cfg.conditioning)
    size = (generator.width, generator.height)
    items = [
        (sample, FOGGY, {conditioning.name: conditioning.control(sample, streets, size)}, seed)
        for seed, sample in enumerate(streets.samples())
    ]
    work = lambda batch: generator.generate(*map(list, zip(*batch, strict=True)))  # noqa: E731
    assert_batch_changes_nothing(work, items)
