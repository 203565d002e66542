import pytest
import torch

from dillema.types import Counterfactual
from dillema.validity.detector import DetectorGate
from tests import tiny
from tests.validity import checkpoints

CARS = tiny.dataset(task="classification", classes=("car", "tram car"))  # of different lengths


@pytest.fixture(scope="module", params=["owlv2", "grounding_dino"])
def gate(request, tmp_path_factory):
    model = getattr(checkpoints, request.param)(tmp_path_factory.mktemp(request.param))
    result = DetectorGate(model, prompt="a {label}.")
    result.load()
    return result


def score(gate, samples, images):
    return gate.score(samples, [Counterfactual("a car", ())] * len(images), images, CARS)


def test_an_unchanged_image_has_the_object_at_its_place(gate):
    (scores,) = score(gate, [tiny.sample(seed=1, label=0)], [tiny.image(1)])
    assert scores["label"] == scores["original_label"]
    assert scores["overlap"] == 1
    assert 0 < scores["label"] < 1


def test_the_confidence_is_the_highest_one_of_the_network(gate):
    (scores,) = score(gate, [tiny.sample(seed=1, label=0)], [tiny.image(2)])
    inputs = gate._processor(images=[tiny.image(2)], text="a car.", return_tensors="pt")
    with torch.inference_mode():
        logits = gate._network(**inputs).logits
    assert scores["label"] == pytest.approx(float(logits.sigmoid().max()), abs=1e-5)


def test_a_batch_scores_as_single_images_do(gate):
    samples = [tiny.sample(seed=i, label=label) for i, label in enumerate((0, None, 1))]
    images = [tiny.image(10 + i) for i in range(3)]
    singles = [score(gate, [s], [i])[0] for s, i in zip(samples, images, strict=True)]
    assert singles[1] == {}
    assert score(gate, samples, images) == [pytest.approx(scores, abs=1e-4) for scores in singles]


def test_only_what_the_detector_finds_in_the_original_can_be_missed():
    gate = DetectorGate("none", min_label=0.2, min_original=0.3, min_overlap=0.5)
    lost = {"label": 0.1, "original_label": 0.4, "overlap": 0.1}
    assert gate.reasons(lost) == [
        "confidence of the label is 0.10, below 0.2",
        "overlap with the object of the original is 0.10, below 0.5",
    ]
    assert gate.reasons(lost | {"original_label": 0.2}) == []
    assert gate.reasons({}) == []
