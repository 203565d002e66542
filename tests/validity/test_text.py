import pytest

from dillema.types import Counterfactual, Edit
from dillema.validity.text import TextGate
from tests import tiny
from tests.validity import checkpoints

CARS = tiny.dataset(task="classification", classes=("car", "bus"))


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    result = TextGate(
        checkpoints.sentence_encoder(tmp_path_factory.mktemp("encoder")), min_label_distance=0.1
    )
    result.load()
    return result


def score(gate, counterfactual, label=None):
    sample = tiny.sample(label=label)
    (scores,) = gate.score([sample], [counterfactual], [tiny.image(0)], CARS)
    return scores


def edited(text, original, replacement, caption="a red car in the fog"):
    return Counterfactual(text, (Edit("thing", original, replacement),), caption=caption)


def test_an_unchanged_text_is_as_similar_as_can_be_and_another_one_less(gate):
    placebo = Counterfactual("a red car", (), caption="a red car")
    assert score(gate, placebo) == pytest.approx({"similarity": 1})
    other = score(gate, edited("zebras quickly jump", "red", "zebras"))
    assert other["similarity"] < 0.99
    assert gate.reasons({"similarity": 0.4}) == ["similarity with the caption is 0.40, below 0.5"]


def test_an_edit_of_the_label_breaks_it(gate):
    of_label = score(gate, edited("a red bus in the fog", "car", "bus"), label=0)
    of_colour = score(gate, edited("a green car in the fog", "red", "green"), label=0)
    assert abs(of_label["label_distance"]) < 1e-6 < of_colour["label_distance"]
    assert gate.reasons(of_label)[-1] == "distance of an edit from the label is 0.00, below 0.1"


def test_without_a_label_or_an_edit_there_is_no_distance_from_it(gate):
    assert set(score(gate, edited("a green car", "red", "green"))) == {"similarity"}
    assert set(score(gate, Counterfactual("a car", (), caption="a car"), label=0)) == {"similarity"}


def test_a_batch_scores_as_single_texts_do(gate):
    texts = [
        edited("a green car", "red", "green"),
        Counterfactual("a long text about a street", (), caption="a"),
    ]
    samples = [tiny.sample(label=0)] * 2
    singles = [score(gate, text, label=0) for text in texts]
    assert gate.score(samples, texts, [tiny.image(0)] * 2, CARS) == singles
