import pickle

import numpy as np
import pytest
from PIL import Image

from dillema.backend import Renders
from dillema.dataset import check_sample
from dillema.dataset.mini import MiniImageNet, MiniShift, render_as
from dillema.errors import UserError
from dillema.mini.train.world import draw
from dillema.types import Edit

SUNNY = {"weather": ["clear"], "time of day": ["daytime"]}


@pytest.mark.parametrize("kind", [MiniShift, MiniImageNet])
def test_samples_are_the_scenes_that_the_models_are_trained_on(kind):
    dataset = kind(limit=4, split="test")
    for sample in dataset.samples():
        check_sample(sample, dataset)
        split, task, index = sample.id.split("-")
        image, mask, appearance = draw(split, task, int(index))
        np.testing.assert_array_equal(np.asarray(sample.image), image)
        np.testing.assert_array_equal(sample.mask, mask)
        assert dict(sample.attributes) == {
            "weather": appearance["weather"],
            "time of day": appearance["time_of_day"],
            "colour": appearance["colour"],
        }
        assert sample.label == (dataset.classes.index(appearance["kind"]) if kind is MiniImageNet else None)


def test_where_gives_the_appearance_and_keeps_the_scene():
    plain, sunny = MiniShift(limit=8).samples(), MiniShift(limit=8, where=SUNNY).samples()
    assert {(s.attributes["weather"], s.attributes["time of day"]) for s in sunny} == {("clear", "daytime")}
    for a, b in zip(plain, sunny, strict=True):
        assert (a.id, a.attributes["colour"]) == (b.id, b.attributes["colour"])
        np.testing.assert_array_equal(a.mask, b.mask)


def test_a_sample_is_the_same_each_time_and_in_another_process():
    first, again = (MiniImageNet(limit=2).samples() for _ in range(2))
    assert (
        [s.digest for s in first]
        == [s.digest for s in again]
        == [pickle.loads(pickle.dumps(s)).digest for s in again]
    )


def test_splits_share_no_scene():
    masks = [
        {s.read_mask() for s in MiniShift(split=split, limit=10).samples()}
        for split in ("train", "val", "test")
    ]
    assert len(set.union(*masks)) == 30


def test_the_limit_draws_by_the_seed():
    few = [[s.id for s in MiniShift(limit=5, seed=seed).samples()] for seed in (0, 1)]
    assert few[0] != few[1]
    assert few[0] != [f"val-street-{i:04}" for i in range(5)]


def test_the_same_scene_can_be_rendered_as_another_day():
    sample = MiniShift(limit=1, where=SUNNY).samples()[0]
    assert render_as(sample.id, sample.attributes) == Image.fromarray(np.asarray(sample.image))
    night = render_as(sample.id, {**sample.attributes, "time of day": "night"})
    assert np.asarray(night).mean() < 0.5 * np.asarray(sample.image).mean()


def test_an_edited_sample_can_be_rendered_where_this_world_has_what_the_edit_says():
    dataset = MiniShift(limit=1, where=SUNNY)
    sample = dataset.samples()[0]
    assert isinstance(dataset, Renders)
    night = dataset.render(sample, [Edit("time of day", "day", "night")])
    assert night() == render_as(sample.id, {**sample.attributes, "time of day": "night"})
    assert dataset.render(sample, [Edit("weather", "clear", "foggy"), Edit("town", "here", "there")]) is None
    assert dataset.render(sample, [Edit("weather", "clear", "a sandstorm")]) is None


@pytest.mark.parametrize("where", [{"weather": ["sunny"]}, {"weather": []}, {"town": ["10HD"]}])
def test_a_where_that_no_scene_matches_says_what_there_is(where):
    with pytest.raises(UserError, match=r"no scene matches.*foggy"):
        MiniShift(where=where).samples()


def test_an_unknown_split_is_named():
    with pytest.raises(UserError, match=r"no split 'vall'.*train, val, test"):
        MiniShift(split="vall").samples()
