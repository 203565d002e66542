"""Checks the promises of back-ends about their results, for every option that runs on this machine.

The order is kept. The batch size, the other items and a second call change no bit (on a CPU). The seed
matters where something is drawn. An error of one item concerns that item only.
"""

import json

import numpy as np
import pytest
import torch

from dillema.config import build
from dillema.execution import in_threads
from dillema.execution.batch import run_batch
from dillema.types import Caption, Counterfactual, Edit, Expression, Sample
from tests import tiny
from tests.contracts import small
from tests.contracts.options import options
from tests.test_config import composed

ATTRIBUTES = {"weather": "clear"}
FOGGY = Counterfactual("a foggy car", (Edit("weather", "clear", "foggy"),), caption="a clear car")
PLACEBO = Counterfactual("a clear car", (), caption="a clear car")
VARY = {"weather": ["clear", "foggy"]}
STREETS = tiny.dataset(vary=VARY)
CARS = tiny.dataset(task="classification", classes=("car", "bus", "tram"), vary=VARY)
DEPTH = np.linspace(1, 50, tiny.SIZE[0] * tiny.SIZE[1], dtype=np.float32).reshape(tiny.SIZE[::-1])


def runnable(group):
    return [option.name for option in options(group)]


def load(group, option, tmp_path):
    """Returns a loaded option with small weights; None if only its class can be checked."""
    settings = getattr(small, group)(option, tmp_path)
    if settings is None:
        return None
    block = composed(f"{group}={option}", *settings)[group]
    backend = build(next(iter(block.values())) if group in ("validity", "model") else block)
    backend.load()
    return backend


def street(seed, **fields):
    mask = np.random.default_rng(seed).integers(1, 12, tiny.SIZE[::-1], np.uint8)
    return tiny.sample(
        f"s{seed}",
        seed=seed,
        mask=mask,
        attributes=ATTRIBUTES,
        read_depth=lambda: DEPTH * (1 + seed),
        **fields,
    )


def damaged():
    return Sample("damaged", lambda: b"no image", lambda: b"no mask", 0, ATTRIBUTES, read_depth=lambda: 1 / 0)


def comparable(result):
    """Returns a result in a form in which every bit counts."""
    if isinstance(result, str):
        return result
    if isinstance(result, dict):
        return repr(result)  # in which NaN equals NaN
    if isinstance(result, Caption):
        return result.text
    if isinstance(result, torch.Tensor):
        return result.numpy().tobytes()
    if hasattr(result, "image"):
        return result.image.tobytes(), result.weight
    return result.tobytes()


def assert_promises(work, items, broken=None):
    """Asserts the promises of `work` for items; `broken` is an item that fails."""
    batch_results = list(work(items))
    assert len(batch_results) == len(items)
    expected = [comparable(result) for result in batch_results]
    assert [comparable(result) for result in work(items)] == expected
    assert [comparable(result) for item in items for result in work([item])] == expected
    assert [comparable(result) for result in work(items[::-1])] == expected[::-1]
    assert any(comparable(result) != expected[0] for result in batch_results[1:]), (
        "the items do not tell the order"
    )
    if broken is not None:
        first, error, *others = run_batch(work, [items[0], broken, *items[1:]])
        assert isinstance(error, Exception)
        assert [comparable(result) for result in (first, *others)] == expected


@pytest.mark.parametrize("option", runnable("captioner"))
def test_captioners(option, tmp_path):
    captioner = load("captioner", option, tmp_path)
    if captioner is None:
        return
    dataset = CARS if option == "label" else STREETS

    def work(items):
        return captioner.caption([sample for sample, _ in items], dataset, [seed for _, seed in items])

    items = [(street(seed, label=seed), seed) for seed in range(3)]
    needs_no_image = option == "label"
    assert_promises(work, items, None if needs_no_image else (damaged(), 0))
    if getattr(captioner, "top_p", None) is not None:
        assert comparable(work([(street(0), 1)])[0]) != comparable(work([(street(0), 2)])[0])


@pytest.mark.parametrize("option", runnable("conditioning"))
def test_conditionings(option, tmp_path):
    conditioning = load("conditioning", option, tmp_path)
    if conditioning is None:
        return

    def work(samples):
        return [conditioning.control(sample, STREETS, tiny.SIZE) for sample in samples]

    samples = [street(seed) for seed in range(3)]
    if option == "dataset_depth":  # depth is shown relative to its range
        samples[1] = tiny.sample("flat", seed=1, read_depth=lambda: DEPTH**2)
    assert_promises(work, samples, damaged())
    control = conditioning.control(street(0), STREETS, (80, 48))
    assert (control.image.size, control.image.mode) == ((80, 48), "RGB")


@pytest.mark.parametrize("option", runnable("generator"))
def test_generators(option, tmp_path):
    generator = load("generator", option, tmp_path)
    if generator is None:
        return
    grey = {"segmentation": small.control()} if option == "mini" else {}

    def work(items):
        samples, texts, seeds = zip(*items, strict=True)
        return generator.generate(samples, texts, [grey] * len(items), seeds)

    items = [(street(0), FOGGY, 1), (street(1), FOGGY, 2), (street(2), FOGGY, 3)]
    assert_promises(work, items)
    (first,), (second,) = work([items[0]]), work([(street(0), FOGGY, 7)])
    assert first.size == (generator.width, generator.height) and first.tobytes() != second.tobytes()


@pytest.mark.parametrize("option", runnable("validity"))
def test_gates(option, tmp_path):
    gate = load("validity", option, tmp_path)
    if gate is None:
        return

    def work(items):
        samples, texts, images = zip(*items, strict=True)
        return gate.score(samples, texts, images, CARS)

    texts = [FOGGY, PLACEBO, Counterfactual("a foggy bus", FOGGY.edits, caption="a clear bus")]
    items = [(street(i, label=i), text, tiny.image(10 + i)) for i, text in enumerate(texts)]
    reads_the_original = option not in ("image", "reader", "text")
    assert_promises(work, items, (damaged(), FOGGY, tiny.image(3)) if reads_the_original else None)
    for scores in work(items):
        assert set(scores) <= set(gate.scores)
        assert json.dumps(scores, allow_nan=False)
        assert all(isinstance(reason, str) and reason for reason in gate.reasons(scores))


@pytest.mark.parametrize("option", runnable("model"))
def test_models(option, tmp_path):
    model = load("model", option, tmp_path)
    if model is None:
        return

    def work(images):
        return list(model.predict(images))

    assert_promises(work, [tiny.image(seed) for seed in range(3)])
    assert all(logits.dtype == torch.float32 for logits in work([tiny.image(0)]))


@pytest.mark.parametrize("option", ["smollm2", "qwen3_4b_transformers"])
def test_language_models(option, tmp_path):
    llm = load("llm", option, tmp_path)
    mood = {"type": "string", "pattern": "^[a-z]{4,8}$"}
    schema = {
        "type": "object",
        "properties": {"mood": mood},
        "required": ["mood"],
        "additionalProperties": False,
    }

    def ask(item):
        text, seed = item
        return llm.ask([{"role": "user", "content": text}], schema, seed)

    def work(items):
        return in_threads(ask, items) if llm.batch_size > 1 else [ask(item) for item in items]

    assert_promises(work, [("sea", 0), ("sky", 1), ("a long walk by the sea", 2)])
    assert len({work([("sea", seed)])[0] for seed in range(6)}) > 1
    assert json.loads(work([("sea", 0)])[0]).keys() == {"mood"}


@pytest.mark.parametrize("option", runnable("edits"))
def test_edit_strategies(option):
    strategy = build(composed(f"edits={option}").edits)
    vary = {"weather": ["clear", "foggy", "snowy"], "time of day": ["day", "night"], "place": []}
    expressions = {
        "weather": Expression("clear", "clear"),
        "time of day": Expression("day", "day"),
        "place": Expression("street"),
    }

    def work(items):
        return [str(strategy.plan(name, expressions, vary, 4, seed)) for name, seed in items]

    assert_promises(work, [(f"scene-{index}", 0) for index in range(6)])
    names = [f"scene-{index}" for index in range(6)]
    assert work([(name, 0) for name in names]) != work([(name, 1) for name in names])
    for name in names:
        variants = strategy.plan(name, expressions, vary, 4, 0)
        assert variants and all(variant.changes and set(variant.changes) <= set(vary) for variant in variants)
        assert strategy.plan(name, expressions, vary, 2, 0) == variants[:2]
        expected_variants = [
            (a, v) for variant in variants for a, v in variant.changes.items() if expressions[a].value in v
        ]
        assert not expected_variants, "an attribute changes to the value that it has"
