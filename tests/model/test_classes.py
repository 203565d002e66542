"""Matching the classes of checkpoints and data sets by name."""

import logging

import pytest
import torch

from dillema.config import build
from dillema.dataset import shift
from dillema.errors import ItemError, UserError
from dillema.model import classes
from dillema.model.callable import CallableModel
from dillema.model.classes import check_class_count, check_classes
from dillema.model.timm import TimmClassification
from dillema.model.transformers import TransformersClassification, TransformersSegmentation
from tests import tiny
from tests.test_config import composed

NAMES = ["car", "van", "truck", "bus", "motorcycle", "bicycle"]


def named(folder, names, segmenter=False):
    """Returns a small checkpoint, loaded, whose classes have these names."""
    from transformers import AutoConfig

    path = (tiny.segmenter if segmenter else tiny.classifier)(folder, len(names))
    config = AutoConfig.from_pretrained(path)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    config.save_pretrained(path)
    model = (TransformersSegmentation if segmenter else TransformersClassification)("m", path)
    model.load()
    return model


def data(names, **changes):
    return tiny.dataset("classification", classes=tuple(names), ignored=frozenset(), **changes)


def test_the_same_names_in_another_order_are_matched(tmp_path):
    model = named(tmp_path, NAMES)
    assert check_classes(model, data(NAMES)) is None
    dataset = data(sorted(NAMES))
    plain = model.predict([tiny.image(0)])[0]
    model.class_map = check_classes(model, dataset)
    assert model.class_map == {0: 2, 1: 5, 2: 4, 3: 1, 4: 3, 5: 0}
    matched = model.predict([tiny.image(0)])[0]
    for name in NAMES:
        expected, actual = plain.softmax(0)[NAMES.index(name)], matched.softmax(0)[sorted(NAMES).index(name)]
        torch.testing.assert_close(actual, expected)
    assert check_classes(model, dataset) == model.class_map  # before each batch of a step


def test_names_are_compared_as_people_read_them(tmp_path):
    model = named(tmp_path, ["polar_bear, Ursus maritimus", "Traffic-Light", "caf\u00e9"])
    assert check_classes(model, data(["traffic light", "polar bear", "cafe\u0301"])) == {0: 1, 1: 0, 2: 2}


def test_a_model_of_more_classes_is_asked_about_those_of_the_data_set(tmp_path):
    assert check_classes(named(tmp_path, NAMES), data(["bus", "car"])) == {0: 1, 3: 0}


def test_different_names_are_refused_with_both_lists(tmp_path):
    model = named(tmp_path, NAMES)
    with pytest.raises(UserError) as error:
        check_classes(model, data(["rejected", *sorted(NAMES)]))
    assert str(error.value).startswith("model=m has no class called rejected, of tiny.\n")
    assert "The classes of tiny: 0 rejected, 1 bicycle, 2 bus, 3 car" in str(error.value)
    assert "The classes of the model: 0 car, 1 van, 2 truck" in str(error.value)
    assert "'model.m.class_map={" in str(error.value)


def test_names_that_are_numbers_are_compared_as_names(tmp_path):
    model = named(tmp_path, ["0", "1", "10", "2"])  # the order of torchvision's ImageFolder
    assert check_classes(model, data(["0", "1", "2", "10"])) == {0: 0, 1: 1, 2: 3, 3: 2}
    assert check_classes(model, data(["0", "1", "10", "2"])) is None
    others = named(tmp_path / "others", ["7", "8", "9"])
    with pytest.raises(UserError, match=r"(?s)tiny: 0 0, 1 1, 2 2\n.*of the model: 0 7, 1 8, 2 9\n"):
        check_classes(others, data(["0", "1", "2"]))


@pytest.mark.parametrize(
    ("names", "labels", "pairs"),
    [(["cat", "dog"], ["0", "1"], "cat is 0, dog is 1"), (["0", "1"], ["cat", "dog"], "0 is cat, 1 is dog")],
)
def test_names_and_numbers_go_by_their_order_and_it_is_said_once(tmp_path, caplog, names, labels, pairs):
    model = named(tmp_path, names)
    classes._warn_once.cache_clear()
    with caplog.at_level(logging.INFO, "dillema"):
        for _ in range(2):
            assert check_classes(model, data(labels)) is None
    (record,) = caplog.records
    assert f"the same order: {pairs}. If they are not, give model.m.class_map" in record.message
    with pytest.raises(UserError, match="model=m has 2 classes, tiny has 3"):
        check_classes(model, data([*labels, labels[0] + "0"]))


def test_a_class_map_that_names_refute_is_refused(tmp_path):
    model = named(tmp_path, NAMES)
    dataset = data(["rejected", *sorted(NAMES)])  # a folder that is no class moves all the others
    model.class_map = {name: i for i, name in enumerate(sorted(NAMES))}
    with pytest.raises(
        UserError, match="class 'bicycle' to 0, which tiny calls 'rejected'; its class 'bicycle' is 1"
    ):
        check_classes(model, dataset)
    model.class_map = {"car": -1}
    with pytest.raises(
        UserError, match=r"car goes to class -1, but tiny has the classes 0 to 6: rejected, bicycle"
    ):
        check_classes(model, dataset)
    model.class_map = {"cat": 0}
    with pytest.raises(UserError, match="the model has no class 'cat'; it has 6, called car, van"):
        check_classes(model, dataset)
    model.class_map = {}
    with pytest.raises(UserError, match=r"model\.m\.class_map is empty"):
        check_classes(model, dataset)


def test_a_class_that_is_never_answered_is_said_once(tmp_path, caplog):
    model = named(tmp_path, NAMES)
    model.class_map = {"car": 0, "van": 0}
    classes._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "dillema"):
        for _ in range(2):
            assert check_classes(model, data(["car", "dog"])) == {0: 0, 1: 0}
    assert [record.message for record in caplog.records] == [
        "model.m.class_map: the model never answers dog, which tiny scores"
    ]


def test_the_map_of_an_option_waits_for_the_names_that_it_is_for(tmp_path):
    cityscapes = build(composed("dataset=cityscapes").dataset)
    names = cityscapes.classes
    option = composed("model=segformer_cityscapes").model.segformer_cityscapes
    default = build(option).default_class_map
    street = tiny.dataset()  # SHIFT's classes
    model = named(tmp_path / "cityscapes", names, segmenter=True)
    model.default_class_map = default
    ids = check_classes(model, street)
    assert {names[i]: shift.CLASSES[target] for i, target in ids.items()} == default
    assert check_classes(model, cityscapes) is None
    own = named(tmp_path / "own", shift.CLASSES, segmenter=True)
    own.default_class_map = default
    assert check_classes(own, street) is None  # a checkpoint that names its classes as the data set does
    numbered = TransformersSegmentation("m", tiny.segmenter(tmp_path / "numbered"), default_class_map=default)
    numbered.load()
    assert not numbered.class_names
    assert check_classes(numbered, street) is None


def test_lists_of_imagenet_are_the_same_whatever_the_synonyms():
    from dillema.dataset import imagenet

    timm = pytest.importorskip("timm")
    info = timm.data.ImageNetInfo("imagenet-1k")
    dataset = data(imagenet.classes().values())
    model = CallableModel("m", {"_target_": "tests.model.networks.brightness"})
    for names in (imagenet.classes().values(), map(info.index_to_description, range(1000))):
        model.class_names = tuple(names)
        assert check_classes(model, dataset) is None
    assert check_classes(model, data(["n02510455", "n01440764"])) == {0: 1, 388: 0}
    assert check_classes(model, data(["giant panda", "tench"])) == {0: 1, 388: 0}


def test_published_weights_of_timm_know_their_names(tmp_path):
    timm = pytest.importorskip("timm")
    model = TimmClassification("m", "test_resnet.r160_in1k")
    model._network = timm.create_model("test_resnet.r160_in1k", num_classes=1000)
    assert (len(model.class_names), model.class_names[0]) == (1000, "tench, Tinca tinca")


def test_the_number_of_classes_must_fit_in_both_directions():
    model = CallableModel("m", {"_target_": "tests.model.networks.brightness"})
    check_class_count(model, data(NAMES), 6)
    for count in (5, 7):
        with pytest.raises(
            UserError, match=rf"model=m has {count} classes, tiny has 6: car, van.*model\.m\.class"
        ):
            check_class_count(model, data(NAMES), count)
    model.class_map = {0: 1, 1: 4}
    check_class_count(model, data(NAMES), 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_an_error_of_their_image(tmp_path, value):
    model = named(tmp_path, NAMES)
    with torch.no_grad():
        next(model.module.parameters()).view(-1)[0] = value
    with pytest.raises(ItemError, match=r"the model returned NaN or infinite numbers \(6 of 6 logits\)"):
        model.predict([tiny.image(0)])
    function = CallableModel(
        "m", {"_target_": "tests.model.networks.broken", "_partial_": True}, class_map={0: 1, 1: 0}
    )
    function.load()
    with pytest.raises(ItemError, match="NaN or infinite"):
        function.predict([tiny.image(0), tiny.image(1)])
