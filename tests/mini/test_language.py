"""The captioner of the small world, and its lines in the benchmark."""

import pytest

from dillema.config import build
from dillema.mini.benchmark import language
from tests.test_config import composed

CLEAR_DAYS = ("dataset=mini_imagenet", "dataset.split=val", "dataset.limit=64")


@pytest.fixture(scope="module")
def captioned():
    """Returns scenes on clear days of the validation split, with what is to be named and their captions."""
    cfg = composed(*CLEAR_DAYS)
    captioner, dataset = build(cfg.captioner), build(cfg.dataset)
    captioner.load()
    samples = dataset.samples()
    captions = captioner.caption(samples, dataset, [0] * len(samples))
    return [
        (dataset.classes[sample.label], caption.text.replace(",", " ").split())
        for sample, caption in zip(samples, captions, strict=True)
    ]


@pytest.mark.parametrize("named", ["noun", "clear", "daytime"])
def test_the_captioner_names_the_vehicle_the_weather_and_the_time(captioned, named):
    assert len(captioned) == 64
    right = [(kind if named == "noun" else named) in words for kind, words in captioned]
    assert sum(right) >= 0.95 * 64


def test_the_noun_has_a_bar_in_scenes_with_a_label_alone(monkeypatch):
    monkeypatch.setattr(language, "CAPTIONED_SCENES", 50)
    monkeypatch.setattr(language, "NOUN_BAR", 0.9)
    rows = {row.name: row for row in language.measure_captioner(composed())}
    labelled, streets = rows["captioner's noun where it is the label"], rows["captioner's noun in streets"]
    assert labelled.met and labelled.bar == "90 %; none" and labelled.figures["vehicle scenes"] >= 0.9
    assert streets.met is None and streets.bar == "none" and streets.measured.endswith(" %")
    assert set(streets.figures) == {"street scenes"} and "street" not in labelled.measured
