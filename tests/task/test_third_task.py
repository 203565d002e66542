"""A third task needs only one file: evaluation, predictions, statistics and words need no change."""

from dataclasses import dataclass

import pytest
import torch

from dillema.errors import UserError
from dillema.evaluation import evaluate
from dillema.predictions import COUNTERFACTUAL, ORIGINAL, PLACEBO, error_maps, read, row, write
from dillema.statistics import confusion_matrix, summarise
from dillema.task import get_task
from dillema.types import Edit
from tests import tiny
from tests.labels import labels

TAGS = labels("tests.task.tags", ("cat", "dog", "bird"))
FOG = Edit("weather", "clear", "foggy")


@dataclass
class Reader:
    """Finds tags by brightness: a dark image hides the birds."""

    name: str = "m"

    def load(self):
        pass

    def predict(self, images):
        brightness = torch.tensor([image.resize((1, 1)).getpixel((0, 0))[0] for image in images])
        return torch.stack(
            [torch.ones_like(brightness), -torch.ones_like(brightness), brightness - 128], 1
        ).float()


def predict(images):
    """Returns the record of images (key: brightness), all of which show a cat and a bird."""
    items = [
        (key, lambda level=level: tiny.image(0).point(lambda _: level), lambda: ["cat", "bird"])
        for key, level in images.items()
    ]
    return evaluate(Reader(), items, TAGS, 4)


@pytest.fixture
def path(tmp_path):
    brightness = {}
    for i in range(12):
        brightness |= {f"s{i}": 200, f"s{i}_0": 50 if i < 6 else 190, f"s{i}_placebo": 180}
    records = predict(brightness)
    rows = []
    for i in range(12):
        source = f"s{i}"
        rows.append(row("m", source, source, ORIGINAL, records[source]))
        rows.append(row("m", f"{source}_0", source, COUNTERFACTUAL, records[f"{source}_0"], edits=[FOG]))
        rows.append(row("m", f"{source}_placebo", source, PLACEBO, records[f"{source}_placebo"]))
    write(tmp_path / "p.parquet", rows, TAGS, ())
    return tmp_path / "p.parquet"


def test_its_figures_are_computed_from_its_tallies(path):
    figures = summarise(path, TAGS, ["m"], 0)["models"]["m"]
    assert (figures["metric"], figures["images"]) == ("f1", 12)
    assert figures["original"] == {"f1": 1, "recall": 1}
    # of 24 tags 18 are found, and nothing else
    assert figures["counterfactual"] == {"f1": pytest.approx(36 / 42), "recall": pytest.approx(18 / 24)}
    assert figures["drop"] == pytest.approx(6 / 42) and figures["low"] < 6 / 42 < figures["high"]
    assert figures["placebo"]["drop"] == 0 and figures["harmful"] is True
    # the effect weighs images alike: six of twelve keep 2 / 3 of their F1
    assert figures["per_value"][0]["effect"] == pytest.approx(6 / 12 * (1 - 2 / 3))
    assert figures["per_class"].keys() == {"cat", "bird"}
    assert figures["per_class"]["bird"]["drop"] == pytest.approx(1 - 12 / 18)
    assert figures["flip_rate"] is figures["chance"] is figures["near_chance"] is None
    assert figures["confusions"] == [] and confusion_matrix(read(path, "m", TAGS))[0] == []


def test_pages_say_its_words(path):
    task, predictions = get_task(TAGS.task), read(path, "m", TAGS)
    before, after = predictions.pairs()
    originals, counterfactuals = predictions.list_answers(before), predictions.list_answers(after)
    assert (
        task.describe(originals[0], TAGS) == "cat, bird" and task.describe(counterfactuals[0], TAGS) == "cat"
    )
    outcomes = [task.outcome(*pair) for pair in zip(originals, counterfactuals, strict=True)]
    assert outcomes.count("other") == 6 and set(outcomes) == set(task.outcomes)
    assert task.classes_in(originals[0]) == [0, 2]
    assert error_maps(path, "m", set(predictions.image), TAGS) == {}


def test_a_task_that_does_not_exist_is_named():
    with pytest.raises(UserError, match=r"there is no task 'tests\.task\.nothing'"):
        get_task("tests.task.nothing")
