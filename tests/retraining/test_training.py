import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from dillema.errors import UserError
from dillema.model.transformers import TransformersClassification, TransformersSegmentation
from dillema.retraining import training
from dillema.retraining.training import Batches, Schedule, Source, Training, train
from dillema.task import get_task
from tests import tiny

SCHEDULE = Schedule(steps=5, batch_size=4, learning_rate=1e-3, share=0.5)


def flat(value):
    return Image.new("RGB", tiny.SIZE, (value,) * 3)


def sources(count=6, counterfactuals=2):
    """Returns sources as grey as their number, whose counterfactuals are 100 and more lighter."""
    return [
        Source(
            lambda i=i: flat(i),
            lambda i=i: i,
            [lambda i=i, n=n: flat(100 * (n + 1) + i) for n in range(counterfactuals if i else 0)],
        )
        for i in range(count)
    ]


def draw(arm, schedule=SCHEDULE, seed=0):
    batches = Batches(sources(), arm, schedule, get_task("classification"), seed)
    return [
        [(np.asarray(image)[0, 0, 0].item(), truth) for image, truth in batch] for batch in batches
    ], batches.drawn


def test_arms_see_the_same_sources_in_the_same_order_and_differ_in_the_pictures_alone():
    (plain, plain_kinds), (painted, painted_kinds), (changed, changed_kinds) = map(
        draw, ("originals", "counterfactuals", "augmentation")
    )
    truths = [[truth for _, truth in batch] for batch in plain]
    assert [len(batch) for batch in truths] == [4] * 5
    assert (
        truths
        == [[truth for _, truth in batch] for batch in painted]
        == [[truth for _, truth in batch] for batch in changed]
    )
    assert all(grey == truth for batch in plain for grey, truth in batch)
    assert all(
        grey % 100 == truth for batch in painted for grey, truth in batch
    )  # a counterfactual of the very source
    assert plain_kinds == {"originals": 20} and painted_kinds.total() == changed_kinds.total() == 20
    replaced = sum(grey >= 100 for batch in painted for grey, _ in batch)
    assert replaced == painted_kinds["counterfactuals"] and 4 <= replaced <= changed_kinds["augmented"] <= 16
    assert {grey // 100 for batch in painted for grey, _ in batch} == {0, 1, 2}


def test_draws_follow_from_the_seed_and_keep_to_the_share():
    assert draw("counterfactuals") == draw("counterfactuals") != draw("counterfactuals", seed=1)
    long = Schedule(steps=200, batch_size=10, learning_rate=1e-3, share=0.3)
    assert draw("augmentation", long)[1]["augmented"] == pytest.approx(600, abs=80)
    assert (
        draw("counterfactuals", Schedule(20, 4, 1e-3, 1.0))[1]["originals"] < 40
    )  # of the one source without counterfactuals


@pytest.mark.parametrize("second", [tiny.SIZE, (96, 48)], ids=["one size", "two sizes"])
def test_the_loss_is_the_mean_over_pixels_that_are_scored_and_classes_that_are_known(tmp_path, second):
    model = TransformersSegmentation("m", tiny.segmenter(tmp_path, 5))
    model.load()
    sizes = (tiny.SIZE, second)
    masks = [np.random.default_rng(i).integers(0, 8, size[::-1], np.uint8) for i, size in enumerate(sizes)]
    images = [tiny.image(i, size) for i, size in enumerate(sizes)]
    network = Training(model, tiny.dataset(ignored=frozenset({0, 3})), SCHEDULE)
    network.network.eval()
    loss = network.training_step(list(zip(images, masks, strict=True)), 0)
    expected = []
    for image, mask in zip(images, masks, strict=True):
        (logits,) = model.predict([image])
        scored = torch.from_numpy(np.isin(mask, [1, 2, 4]))
        expected.append(
            F.cross_entropy(
                logits.permute(1, 2, 0)[scored], torch.from_numpy(mask).long()[scored], reduction="none"
            )
        )
    assert loss.item() == pytest.approx(torch.cat(expected).mean().item(), rel=1e-4)
    nothing = [(image, np.zeros_like(mask)) for image, mask in zip(images, masks, strict=True)]
    assert network.training_step(nothing, 0).item() == 0


def test_training_learns_what_it_is_shown_in_as_many_steps_as_it_is_told(tmp_path):
    model = TransformersClassification("m", tiny.classifier(tmp_path, 2))
    model.load()
    dark_and_light = [
        Source(lambda v=v: flat(v), lambda v=v: int(v > 128), []) for v in (20, 40, 60, 200, 220, 240)
    ]
    took = train(
        model,
        dark_and_light,
        tiny.dataset("classification", ignored=frozenset()),
        "originals",
        Schedule(30, 6, 1e-2, 0.0),
        0,
    )
    assert took.steps == 30 and took.drawn == {"originals": 180}
    assert took.loss[1] < 0.5 * took.loss[0]
    assert not torch.isnan(torch.cat([p.flatten() for p in model.module.parameters()])).any()
    model.module.eval()
    assert model.predict([flat(30), flat(210)]).argmax(1).tolist() == [0, 1]


def test_the_same_seed_trains_the_same_weights(tmp_path):
    states = []
    for seed in (0, 0, 1):
        model = TransformersClassification("m", tiny.classifier(tmp_path, 6))
        model.load()
        train(
            model,
            sources(),
            tiny.dataset("classification", ignored=frozenset()),
            "augmentation",
            SCHEDULE,
            seed,
        )
        states.append(torch.cat([p.detach().flatten() for p in model.module.parameters()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_a_loss_that_is_no_number_stops_the_training_with_what_to_do(tmp_path):
    model = TransformersClassification("m", tiny.classifier(tmp_path, 6))
    model.load()
    with torch.no_grad():
        next(model.module.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match=r"training m diverged.*job\.learning_rate"):
        train(model, sources(), tiny.dataset("classification", ignored=frozenset()), "originals", SCHEDULE, 0)


class Faulty(torch.nn.Module):
    """A network that answers 0 and applies a function in one pass, forwards or backwards."""

    def __init__(self, act):
        super().__init__()
        self.bias, self.act = torch.nn.Parameter(torch.zeros(6)), act

    def forward(self, count):
        return self.act(self.bias).expand(count, -1)


@dataclass
class Model:
    act: Any
    name: str = "m"

    def __post_init__(self):
        self.module = Faulty(self.act)

    def logits(self, images):
        return self.module(len(images))


def faulty(act, steps=1):
    train(
        Model(act),
        sources(),
        tiny.dataset("classification", ignored=frozenset()),
        "originals",
        Schedule(steps, 4, 1e-3, 0.0),
        0,
    )


def test_weights_that_are_no_numbers_after_the_last_step_are_not_kept():
    with pytest.raises(
        UserError,
        match=r"training m diverged: the last step left weights that are no numbers.*job\.learning_rate",
    ):
        faulty(lambda bias: bias.abs().sqrt() * 0)  # its slope at 0 is infinite


def test_a_lack_of_memory_is_answered_with_what_to_do():
    with pytest.raises(
        UserError, match=r"training m takes more memory than there is\. Set job\.batch_size lower"
    ):
        faulty(lambda bias: bias + torch.empty(2**60).sum())
    with pytest.raises(RuntimeError, match="something else"):
        faulty(lambda bias: exec("raise RuntimeError('something else')"))


def test_a_training_that_nobody_watches_logs_how_far_it_is(monkeypatch, caplog):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_LINES", 0)
    with caplog.at_level("INFO"):
        faulty(lambda bias: bias, 3)
    assert "training: step 2 of 3, loss 1.79" in caplog.text


def test_the_learning_rate_rises_and_falls(tmp_path):
    model = TransformersClassification("m", tiny.classifier(tmp_path, 6))
    model.load()
    module = Training(model, tiny.dataset("classification"), Schedule(100, 1, 1.0, 0.0))
    rates = [module._rate(step) for step in range(100)]
    assert (
        rates[0] == pytest.approx(0.1)
        and max(rates) == pytest.approx(rates[9], abs=0.03)
        and 0 < rates[99] < 0.001
    )
