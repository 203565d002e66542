import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dillema.dataset import check_sample, split, subset
from dillema.errors import ItemError, UserError
from dillema.types import Sample


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue


@pytest.fixture
def dataset():
    return SimpleNamespace(
        name="shapes",
        task="segmentation",
        classes=("a", "b"),
        colours=((0, 0, 0), (9, 9, 9)),
        ignored=frozenset({255}),
    )


@pytest.fixture
def sample():
    return Sample("s1", png(np.zeros((4, 6, 3), np.uint8)), png(np.full((4, 6), 1, np.uint8)), label=1)


def test_a_good_sample_passes_with_ignored_ids_beyond_the_classes(dataset, sample):
    check_sample(sample, dataset)
    check_sample(replace(sample, read_mask=png(np.full((4, 6), 255, np.uint8))), dataset)


@pytest.mark.parametrize("content", [b"", b"no image", png(np.zeros((40, 60, 3), np.uint8))()[:60]])
def test_a_file_that_is_no_image_is_an_error_of_its_sample(dataset, sample, content):
    for part in ("read_image", "read_mask"):
        with pytest.raises(ItemError, match=f"the {part.removeprefix('read_')} of s1 cannot be read"):
            check_sample(replace(sample, **{part: lambda: content}), dataset)


def test_groups_are_split_and_never_torn():
    samples = [Sample(f"frame-{i}", bytes, group=f"drive {i % 10}") for i in range(40)]
    train, test = split(samples, 0.3, 0)
    assert (len(train), len(test)) == (28, 12)
    assert not {s.group for s in train} & {s.group for s in test}
    assert sorted([*train, *test], key=samples.index) == samples
    assert split(samples[::-1], 0.3, 0)[1] == test[::-1] != split(samples, 0.3, 1)[1]


def test_samples_without_a_group_are_each_their_own_and_both_parts_have_some():
    samples = [Sample(f"photo-{i}", bytes) for i in range(4)]
    assert [len(part) for part in split(samples, 0.01, 0)] == [3, 1]
    assert [len(part) for part in split(samples, 0.99, 0)] == [1, 3]
    with pytest.raises(
        UserError, match=r"the 4 samples of the data set belong to 1 group.*raise dataset\.limit"
    ):
        split([replace(s, group="one drive") for s in samples], 0.5, 0)


def test_a_subset_grows_with_its_limit_and_keeps_the_order():
    items = [f"item {i}" for i in range(100)]
    assert subset(items, None, 0) == subset(items, 1000, 0) == items
    few, more = subset(items, 10, 0), subset(items, 20, 0)
    assert len(few) == 10
    assert set(few) < set(more)
    assert more == sorted(more, key=items.index)
    with pytest.raises(UserError, match="limit"):
        subset(items, 0, 0)


def test_a_few_of_each_class_are_drawn_before_the_limit():
    items = [f"item {i}" for i in range(100)]
    labels = [i % 3 == 0 for i in range(100)]
    each = subset(items, None, 0, 5, labels)
    assert sorted(labels[items.index(i)] for i in each) == [False] * 5 + [True] * 5
    assert each == sorted(each, key=items.index) != subset(items, None, 1, 5, labels)
    assert set(subset(items, 4, 0, 5, labels)) < set(each)
