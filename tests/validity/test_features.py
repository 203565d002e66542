import numpy as np
import pytest

from dillema.types import Counterfactual, Edit
from dillema.validity.features import FeaturesGate
from tests import tiny
from tests.validity import checkpoints

EDITED = Counterfactual("a foggy street", (Edit("weather", "clear", "foggy"),), caption="a clear street")
PLACEBO = Counterfactual("a clear street", (), caption="a clear street")


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    result = FeaturesGate(checkpoints.dinov2(tmp_path_factory.mktemp("dinov2")), min_hash_change=0.05)
    result.load()
    return result


def score(gate, samples, counterfactuals, images):
    return gate.score(samples, counterfactuals, images, tiny.dataset())


def test_an_edit_that_changed_nothing_is_refused_and_a_placebo_is_not(gate):
    samples, images = [tiny.sample(seed=1)] * 2, [tiny.image(1)] * 2
    edited, placebo = score(gate, samples, [EDITED, PLACEBO], images)
    assert edited == pytest.approx({"similarity": 1, "change": 0, "hash_change": 0}, abs=1e-6)
    assert placebo == pytest.approx({"similarity": 1}, abs=1e-6)
    assert [reason.split(" is ")[0] for reason in gate.reasons(edited)] == [
        "change of the features",
        "change of the perceptual hash",
    ]
    assert gate.reasons(placebo) == []


def test_another_scene_is_less_similar_and_has_another_hash(gate):
    (scores,) = score(gate, [tiny.sample(seed=1)], [EDITED], [tiny.image(2)])
    assert scores["similarity"] < 0.99 and scores["change"] == pytest.approx(1 - scores["similarity"])
    assert scores["hash_change"] > 0.2
    strict = FeaturesGate(gate.model, min_similarity=0.995)
    assert strict.reasons(scores)[0].startswith("similarity with the original is 0.")


def test_the_original_is_compared_at_the_size_of_the_generated_image(gate):
    image = tiny.image(1)
    large = image.resize((128, 64))
    same, larger = score(gate, [tiny.sample(seed=1)] * 2, [PLACEBO] * 2, [image, large])
    assert np.isclose(same["similarity"], 1) and larger["similarity"] > 0.9


def test_a_batch_scores_as_single_images_do(gate):
    samples, images = [tiny.sample(seed=i) for i in range(3)], [tiny.image(10 + i) for i in range(3)]
    texts = [EDITED, PLACEBO, EDITED]
    singles = [score(gate, [s], [t], [i])[0] for s, t, i in zip(samples, texts, images, strict=True)]
    assert score(gate, samples, texts, images) == [pytest.approx(scores, abs=1e-5) for scores in singles]
