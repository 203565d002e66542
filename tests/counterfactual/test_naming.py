from pathlib import Path

import pytest

from dillema.counterfactual.naming import ClassNames
from dillema.dataset import imagenet
from dillema.mini.scene import VEHICLE_KINDS

VEHICLES = ClassNames(VEHICLE_KINDS, {})


@pytest.fixture(scope="module")
def imagenet_names():
    lines = (Path(imagenet.__file__).parent / "imagenet_classes.txt").read_text().splitlines()
    classes = [line.partition(" ")[2] for line in lines]
    racer = frozenset(["racer", "race car", "racing car"])
    names = ClassNames(classes, {"racer": racer})
    return lambda text, label: names.correct(text, classes.index(label))


@pytest.mark.parametrize(
    ("text", "label", "corrected"),
    [
        ("a yellow car on a clear street, daytime", "bicycle", "a yellow bicycle on a clear street, daytime"),
        ("Two cars at a bus stop. A car is red", "bus", "Two buses at a bus stop. A bus is red"),
        ("a truck's wheel, and trucks", "van", "a van's wheel, and vans"),
    ],
)
def test_a_class_that_is_named_in_place_of_the_label_gives_way_to_it(text, label, corrected):
    assert VEHICLES.correct(text, VEHICLE_KINDS.index(label)) == corrected


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a bicycle beside a car", "bicycle"),  # names both
        ("two buses in the fog", "bus"),
        ("a bike at dusk", "motorcycle"),  # the kind
        ("an empty street at night", "truck"),  # names none
        ("a street with no cars", "truck"),
        ("a car park at night", "truck"),  # no car
        ("", "truck"),
    ],
)
def test_a_caption_without_a_contradiction_stays_as_it_is(text, label):
    assert VEHICLES.correct(text, VEHICLE_KINDS.index(label)) == text


@pytest.mark.parametrize(
    ("text", "label", "corrected"),
    [
        ("a dog lying on a sofa", "tabby", "a tabby lying on a sofa"),  # the kind of other classes
        ("an orange van in the street", "school bus", "an orange school bus in the street"),
        ("a man riding a mountain bike", "airliner", "a man riding an airliner"),
        ("An orange on a table", "lemon", "A lemon on a table"),
        ("a race car on a track", "sports car", "a sports car on a track"),  # a synonym of "racer"
        ("three zebras in the grass", "ox", "three oxen in the grass"),
    ],
)
def test_kinds_synonyms_and_names_of_several_words_are_other_classes(imagenet_names, text, label, corrected):
    assert imagenet_names(text, label) == corrected


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a dog with a tennis ball", "golden retriever"),
        ("a red car on a track", "sports car"),
        ("a goldfish in a bowl", "goldfish"),
    ],
)
def test_the_kind_of_the_label_names_it(imagenet_names, text, label):
    assert imagenet_names(text, label) == text


def test_a_class_called_as_the_kind_of_another_is_meant_by_its_name():
    names = ClassNames(["car", "sports_car"], {})
    assert names.correct("a car at night", 1) == "a sports car at night"
    assert names.correct("a sports car at night", 1) == "a sports car at night"


def test_classes_that_are_no_nouns_are_named_by_no_caption():
    names = ClassNames(["no", "other", "3", "background", "cats"], {})
    text = "no one in the background, on the other side 3 chairs"
    assert names.correct(text, 4) == text
    assert names.correct("a dog", 4) == "a dog"


def test_a_plural_class_is_named_in_the_number_of_the_caption():
    names = ClassNames(["cats", "dogs"], {})
    assert names.correct("a cat on two chairs", 1) == "a dog on two chairs"
    assert names.correct("cats on a chair", 1) == "dogs on a chair"
