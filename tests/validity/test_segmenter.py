import json

import numpy as np
import pytest

from dillema.config import build
from dillema.errors import ItemError, UserError
from dillema.gate_check import refuse_unknown_classes
from dillema.steps.verdict import list_scores
from dillema.types import Counterfactual
from dillema.validity.segmenter import SegmenterGate
from tests import tiny
from tests.test_config import composed

ALL_CLASSES = tiny.dataset(ignored=frozenset())


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    result = SegmenterGate(tiny.judge(tmp_path_factory.mktemp("judge")), min_agreement=0.6)
    result.load()
    return result


def score(gate, samples, images, dataset=ALL_CLASSES):
    return gate.score(samples, [Counterfactual("a street", ())] * len(samples), images, dataset)


def predicted(gate, image):
    return gate._segment([image])[0]


def test_an_image_agrees_wholly_with_what_the_segmenter_sees_and_less_with_another_mask(gate):
    image = tiny.image(0)
    mask = predicted(gate, image)
    other = (mask + 1) % 23
    scores = score(gate, [tiny.sample(mask=mask), tiny.sample(mask=other)], [image, image])
    seen = {f"class {ALL_CLASSES.classes[i]}": 1.0 for i in np.unique(mask)}
    assert scores[0] == {"agreement": 1.0, "worst_class": 1.0} | seen
    assert scores[1]["agreement"] < 0.5
    assert gate.reasons(scores[0]) == []
    (reason,) = gate.reasons(scores[1])
    assert reason.startswith("agreement with the mask is 0.") and reason.endswith("below 0.6")


def test_a_class_that_vanished_shows_in_the_worst_class_and_not_in_the_mean(gate):
    image = tiny.image(0)
    mask = predicted(gate, image).copy()
    absent = int(np.setdiff1d(np.arange(23), mask)[0])
    mask[:2] = absent  # 2 of 32 rows
    (scores,) = score(gate, [tiny.sample(mask=mask)], [image])
    assert scores["worst_class"] == 0.0 < scores["agreement"]
    strict = SegmenterGate(gate.model, min_agreement=0.0, min_class_agreement=0.3)
    assert strict.reasons(scores) == ["agreement in the worst class is 0.00, below 0.3"]
    assert SegmenterGate(gate.model, min_agreement=0.0).reasons(scores) == []


@pytest.mark.parametrize("option", ["segmenter_cityscapes", "segmenter_trainids"])
def test_a_class_that_is_not_found_at_all_rejects_an_image_of_real_streets(option):
    block = composed(f"validity={option}").validity.segmenter
    gate = build(block)
    assert gate.reasons({"agreement": 0.6, "worst_class": 0.0}) == [
        "agreement in the worst class is 0.00, below 0.02"
    ]
    assert gate.reasons({"agreement": 0.6, "worst_class": 0.02}) == []


def test_a_class_may_have_a_threshold_of_its_own(gate):
    image = tiny.image(0)
    mask = predicted(gate, image).copy()
    absent = int(np.setdiff1d(np.arange(23), mask)[0])
    mask[:2] = absent
    (scores,) = score(gate, [tiny.sample(mask=mask)], [image])
    name = ALL_CLASSES.classes[absent]
    assert scores[f"class {name}"] == 0.0
    assert set(scores) <= set(list_scores(gate, ALL_CLASSES.classes))
    strict = SegmenterGate(gate.model, min_agreement=0.0, min_class_agreements={name: 0.2})
    assert strict.reasons(scores) == [f"agreement in {name} is 0.00, below 0.2"]
    other = ALL_CLASSES.classes[int(mask[-1, -1])]
    assert SegmenterGate(gate.model, 0.0, min_class_agreements={other: 0.2}).reasons(scores) == []


def test_a_threshold_for_a_class_that_does_not_exist_is_refused(gate):
    misspelt = SegmenterGate(gate.model, min_class_agreements={"pedestrain": 0.2})
    with pytest.raises(UserError, match=r"validity\.segmenter\.min_class_agreements: .*mean pedestrian\?"):
        refuse_unknown_classes(
            [misspelt], tiny.dataset(classes=("road", "pedestrian"), colours=((0,) * 3,) * 2)
        )
    with pytest.raises(UserError, match="no mask of the data set has a class car; they have no named ones"):
        refuse_unknown_classes(
            [SegmenterGate("", min_class_agreements={"car": 0.2})], tiny.dataset(classes=("car",))
        )


def test_a_class_of_a_few_pixels_is_not_the_worst(gate):
    image = tiny.image(0)
    mask = predicted(gate, image).copy()
    mask[0, :4] = int(np.setdiff1d(np.arange(23), mask)[0])  # 0.2 % of the pixels
    (scores,) = score(gate, [tiny.sample(mask=mask)], [image])
    assert scores["worst_class"] > 0.9 > scores["agreement"]


def test_without_a_mask_the_original_image_is_the_measure(gate):
    same, other = score(gate, [tiny.sample(seed=3)] * 2, [tiny.image(3), tiny.image(4)])
    assert same == {"agreement": 1.0, "worst_class": 1.0}  # the classes may be others than the data set's
    assert other["agreement"] < 1.0


def test_a_mask_of_another_size_is_brought_to_the_images(gate):
    image = tiny.image(0)
    mask = np.kron(predicted(gate, image), np.ones((2, 2), np.uint8))
    (scores,) = score(gate, [tiny.sample(mask=mask)], [image])
    assert scores["agreement"] == 1.0


def test_nothing_to_compare_is_an_error_of_that_sample_alone(gate):
    image = tiny.image(0)
    ignored_only = tiny.sample(mask=np.zeros((32, 64), np.uint8))
    error, scores = score(
        gate, [ignored_only, tiny.sample(mask=predicted(gate, image))], [image] * 2, tiny.dataset()
    )
    assert isinstance(error, ItemError) and "ignored classes only" in str(error)
    assert scores["agreement"] == 1.0


def test_images_of_one_batch_do_not_depend_on_each_other(gate):
    samples, images = [tiny.sample(seed=i) for i in range(3)], [tiny.image(10 + i) for i in range(3)]
    singles = [score(gate, [sample], [image])[0] for sample, image in zip(samples, images, strict=True)]
    assert score(gate, samples, images) == singles


def test_a_segmenter_of_masks_with_class_names_answers_in_the_classes_of_the_data_set(tmp_path):
    folder = tiny.mask_segmenter(tmp_path, classes=3)
    config = json.loads((tmp_path / "config.json").read_text())
    names = ["car", "sky", "road"]
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    gate = SegmenterGate(folder, kind="masks", default_class_map={"car": "vehicle"})
    gate.load()
    streets = tiny.dataset(classes=("road", "sky", "vehicle"), colours=(), ignored=frozenset())
    image = tiny.image(0)
    (network,) = gate._segmenter.predict([image])
    mask = np.array([2, 1, 0], np.uint8)[network.argmax(0).numpy()]
    (scores,) = score(gate, [tiny.sample(mask=mask)], [image], streets)
    assert scores["agreement"] == 1.0


def test_a_segmenter_of_other_classes_is_named(tmp_path):
    tiny.segmenter(tmp_path, classes=2)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    gate = SegmenterGate(str(tmp_path))
    gate.load()
    with pytest.raises(UserError, match=r"validity.segmenter.class_map"):
        score(gate, [tiny.sample(mask=np.zeros((32, 64), np.uint8))], [tiny.image(0)])
