import numpy as np
import pytest
from PIL import Image

from dillema.errors import UserError
from dillema.types import Counterfactual, Edit
from dillema.validity.reader import ReaderGate
from tests import tiny
from tests.validity import checkpoints

ATTRIBUTES = {"weather": ["clear", "foggy"], "time of day": ["daytime", "night"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoints.reader(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def gate(model):
    result = ReaderGate(model, ATTRIBUTES)
    result.load()
    return result


def edited(**changes):
    edits = tuple(Edit(name.replace("_", " "), "", value) for name, value in changes.items())
    return Counterfactual("a street", edits)


def score(gate, counterfactuals, images):
    return gate.score([tiny.sample()] * len(images), counterfactuals, images, tiny.dataset())


def test_probabilities_add_up_over_the_values_of_an_attribute(gate):
    image = tiny.image(0)
    clear, foggy = score(gate, [edited(weather="clear"), edited(weather="foggy")], [image, image])
    assert clear["edited"] + foggy["edited"] == pytest.approx(1)
    assert clear["edited"] != pytest.approx(0.5, abs=1e-3)


def test_half_an_edit_is_none(gate):
    image = tiny.image(1)
    changes = [
        edited(weather="foggy"),
        edited(time_of_day="night"),
        edited(weather="foggy", time_of_day="night"),
    ]
    weather, time, both = score(gate, changes, [image] * 3)
    assert both["edited"] == min(weather["edited"], time["edited"])


def test_a_placebo_and_values_that_the_model_does_not_know_have_no_score_and_pass(gate):
    unknown = edited(weather="sandstorm", season="winter")
    assert score(gate, [edited(), unknown], [tiny.image(2)] * 2) == [{}, {}]
    assert gate.reasons({}) == []


def test_the_threshold_decides_from_the_stored_score(model):
    gate = ReaderGate(model, ATTRIBUTES, min_edited=0.8)
    assert gate.reasons({"edited": 0.79}) == ["probability of what was edited is 0.79, below 0.8"]
    assert gate.reasons({"edited": 0.7996}) == ["probability of what was edited is 0.7996, below 0.8"]
    assert gate.reasons({"edited": 0.8}) == []


def test_a_batch_scores_as_single_images_do(gate):
    counterfactuals = [edited(weather="foggy"), edited(), edited(time_of_day="night")]
    images = [tiny.image(seed) for seed in range(3)]
    singles = [score(gate, [text], [image])[0] for text, image in zip(counterfactuals, images, strict=True)]
    assert score(gate, counterfactuals, images) == [pytest.approx(scores, abs=1e-6) for scores in singles]


def test_a_class_that_the_model_lacks_is_named(model):
    with pytest.raises(
        UserError, match=r"validity.reader.attributes.weather: .* has no class hail; it has clear"
    ):
        ReaderGate(model, {"weather": ["clear", "hail"]}).load()


def test_an_all_black_image_is_read_without_error(gate):
    (scores,) = score(gate, [edited(weather="clear")], [Image.fromarray(np.zeros((32, 64, 3), np.uint8))])
    assert 0 <= scores["edited"] <= 1
