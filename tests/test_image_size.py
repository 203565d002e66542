"""Sizes that keep proportions, and several images of one counterfactual, through a whole run."""

import json
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from dillema.image_size import ImageSize, in_equal_sizes
from dillema.predictions import read
from dillema.statistics import summary
from tests import tiny
from tests.backends import Generator, Model, Noise, make_pipeline, run_pipeline

SIZES = [(96, 60), (60, 96), (200, 100)]  # in 64 on the shorter side: 128x64, 64x128, 128x64


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ((1280, 800), (832, 512)),  # SHIFT
        ((2048, 1024), (1024, 512)),  # Cityscapes
        ((1280, 720), (896, 512)),  # BDD100K
        ((500, 375), (704, 512)),  # a photograph of ImageNet
        ((375, 500), (512, 704)),
        ((30, 30), (512, 512)),
    ],
)
def test_the_short_side_is_512_and_both_are_multiples_of_64(source, size):
    assert ImageSize().of(source) == size
    assert size[0] / size[1] == pytest.approx(source[0] / source[1], rel=64 / 512 / 2 + 0.01)


def test_a_fixed_size_stays_as_it_is():
    assert ImageSize(256, 160).of((1280, 800)) == (256, 160)


def test_work_on_several_sizes_keeps_the_order():
    seen = []

    def work(batch):
        seen.append(list(batch))
        return [item * 10 for item in batch]

    assert in_equal_sizes(work, [1, 2, 3, 4], [(1, 1), (2, 1), (1, 1), (2, 1)]) == [10, 20, 30, 40]
    assert seen == [[1, 3], [2, 4]]


@dataclass
class Photographs(Noise):
    """Samples of three sizes."""

    def samples(self):
        return [
            replace(
                sample,
                read_image=lambda i=i: tiny.png(np.asarray(tiny.image(i, SIZES[i % 3]))),
                read_mask=sample.read_mask and (lambda i=i: tiny.png(mask(i))),
            )
            for i, sample in enumerate(super().samples())
        ]


def mask(seed):
    width, height = SIZES[seed % 3]
    return np.random.default_rng(seed).integers(0, 3, (height, width), np.uint8)


@dataclass
class Proportional(Generator):
    """Paints at the size of the control images, all of which must be equal in a batch."""

    width: int | None = None
    height: int | None = None
    short_side: int = 64

    def generate(self, samples, counterfactuals, controls, seeds):
        (size,) = {images["grey"].image.size for images in controls}
        return replace(self, width=size[0], height=size[1])._fixed(samples, counterfactuals, controls, seeds)

    def _fixed(self, *arguments):
        return Generator.generate(self, *arguments)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_nothing_is_squashed_and_the_models_see_the_same_size(tmp_path, task):
    folder, _ = run_pipeline(
        tmp_path / "run",
        tmp_path / "store",
        dataset=Photographs(task=task),
        generator=Proportional(),
        models=[Model(task=task)],
    )
    assert folder.results["sizes"] == {"128x64": 4, "64x128": 2}
    images = list(folder.generated())
    assert len(images) == 12 and folder.failures() == []
    for image in images:
        expected = ImageSize(short_side=64).of(SIZES[int(image.source.removeprefix("scene-")) % 3])
        assert Image.open(image.path).size == Image.open(image.original).size == expected
        if task == "segmentation":
            assert Image.open(folder.path / "generated" / image.label["mask_file_name"]).size == expected
    assert folder.results["models"]["brightest"]["images"] == 12
    rows = read(folder.predictions_file, "brightest", folder.labels)
    if task == "segmentation":
        assert rows.tallies[:, 3:6].sum() == 128 * 64 * len(rows.image)


def rows_of(folder):
    lines = (folder.path / "generated" / "metadata.jsonl").read_text().splitlines()
    return {row["file_name"]: row for row in map(json.loads, lines)}


def test_several_images_of_a_counterfactual_add_to_the_first(tmp_path):
    parts = {"models": [Model()], "gates": [], "placebos": 1}
    one, _ = run_pipeline(tmp_path / "one", tmp_path / "store", **parts)
    diary = tmp_path / "diary"
    three, _ = run_pipeline(
        tmp_path / "three",
        tmp_path / "store",
        images_per_counterfactual=3,
        generator=Generator(diary=str(diary)),
        **parts,
    )
    first, rows = rows_of(one), rows_of(three)
    assert len(rows) == 36 and len(diary.read_text().splitlines()) == 24  # the first ones were painted before
    assert all(rows[name] == row for name, row in first.items())
    assert {"images/scene-0_0.png", "images/scene-0_0-1.png", "images/scene-0_0-2.png"} < rows.keys()
    texts = Counter(row["counterfactual"] for row in rows.values())
    assert set(texts.values()) <= {3, 6, 9} and len({row["seed"] for row in rows.values()}) == 36
    assert len({row["record"] for row in rows.values()}) == 36
    assert three.results["counts"]["counterfactuals"] == 12 and three.results["counts"]["generated"] == 36
    assert three.results["counts"]["placebos"] == one.results["counts"]["placebos"] == 6


def test_the_unit_of_statistics_stays_the_source(tmp_path):
    folder, _ = run_pipeline(
        tmp_path / "run", tmp_path / "store", images_per_counterfactual=4, models=[Model()], gates=[]
    )
    figures = summary(read(folder.predictions_file, "brightest", folder.labels), 0, valid=True)
    assert (figures["images"], figures["sources"], figures["groups"]) == (48, 6, 6)


def test_more_images_leave_the_plan_as_it_is(tmp_path):
    plans = [
        run_pipeline(tmp_path / str(count), tmp_path / "store", images_per_counterfactual=count)[0]
        for count in (1, 2)
    ]
    first, second = (
        {image.source: image.counterfactual.edits for image in folder.generated()} for folder in plans
    )
    assert first == second
    assert make_pipeline().images_per_counterfactual == 1
