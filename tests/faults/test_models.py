"""Back-ends that misbehave: an item's failure or one message that helps, and no silent wrong figure."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from dillema.counterfactual.edits import Random
from dillema.errors import UserError
from dillema.types import Caption, Control, Variant
from tests.backends import SIZE, Captioner, Conditioning, Editor, Gate, Generator, Model, Noise, run_pipeline

COUNT = 4  # sources, each with one counterfactual


def failing(exception):
    def answer(results):
        raise exception

    return answer


class _Misbehaving:
    """Changes the results of a method of a small back-end, for the batches that hold the source scene-1."""

    def __init__(self, answer):
        self.answer = answer

    def wrap(self, backend, method):
        answer = self.answer

        class Wrapped(type(backend)):
            pass

        def call(self, *arguments):
            results = getattr(super(Wrapped, self), method)(*arguments)
            samples = arguments[0]
            is_chosen = method == "predict" or any(
                getattr(sample, "id", "") == "scene-1" for sample in samples
            )
            return answer(results) if is_chosen else results

        setattr(Wrapped, method, call)
        Wrapped.__name__ = f"{type(backend).__name__} that misbehaves"
        return Wrapped(batch_size=1)


def image(size=SIZE, mode="RGB", colour=0):
    return Image.new(mode, size, colour)


GENERATORS = {
    "too few": lambda results: [],
    "too many": lambda results: [*results, *results],
    "None": lambda results: [None for _ in results],
    "None alone": lambda results: None,
    "an array": lambda results: [np.asarray(result) for result in results],
    "another size": lambda results: [image((16, 10)) for _ in results],
    "no pixels": lambda results: [image((0, 0)) for _ in results],
    "decimals": lambda results: [image(mode="F") for _ in results],
    "an exception in the list": lambda results: [ValueError("broken") for _ in results],
    "raises": failing(RuntimeError("shapes do not match")),
    "raises without a message": failing(AssertionError()),
    "raises a surrogate": failing(ValueError("bad \ud800 text")),
    "raises a page": failing(ValueError("<script>alert(1)</script>" * 10_000)),
}


def run(tmp_path, **parts):
    folder, _ = run_pipeline(
        tmp_path / "run", tmp_path / "store", dataset=Noise(count=COUNT), counterfactuals=1, **parts
    )
    return folder


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_that_misbehaves_costs_its_images_alone(tmp_path, name):
    folder = run(tmp_path, generator=_Misbehaving(GENERATORS[name]).wrap(Generator(), "generate"))
    assert [failure["id"] for failure in folder.failures()] == ["scene-1_0"]
    assert folder.results["counts"]["generated"] == COUNT - 1
    assert all(Image.open(image.path).size == SIZE for image in folder.generated())
    assert folder.failures()[0]["message"].encode()


def test_a_black_image_does_not_count(tmp_path):
    from dillema.validity.image import ImageGate

    black = _Misbehaving(lambda results: [image() for _ in results]).wrap(Generator(), "generate")
    folder = run(tmp_path, generator=black, gates=[ImageGate()])
    verdicts = {each.id: each.verdict for each in folder.generated()}
    assert not verdicts["scene-1_0"].valid and len(verdicts) == COUNT


MODELS = {
    "NaN": lambda results: results * float("nan"),
    "infinity": lambda results: results + float("inf"),
    "too few": lambda results: results[:0],
    "too many": lambda results: torch.cat([results, results]),
    "another size": lambda results: results[..., :5],
    "no dimension": lambda results: torch.zeros(()),
    "text": lambda results: ["nothing"] * len(results),
    "None": lambda results: None,
    "raises": failing(RuntimeError("shapes do not match")),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_misbehaves_is_named_before_anything_is_made(tmp_path, name):
    model = _Misbehaving(MODELS[name]).wrap(Model(), "predict")
    with pytest.raises(
        UserError, match=r"model=brightest (cannot predict the original of scene-0|has 7 classes)"
    ):
        run(tmp_path, models=[model])
    assert not (tmp_path / "run" / "generated").exists()


def test_a_model_that_answers_nan_later_costs_those_images(tmp_path):
    calls = []

    def answer(results):
        calls.append(1)
        return results * float("nan") if len(calls) == 3 else results

    folder = run(tmp_path, models=[_Misbehaving(answer).wrap(Model(), "predict")])
    (failure,) = folder.failures()
    assert failure["step"] == "predict" and "no finite numbers" in failure["message"]


SCORES = {
    "too few": lambda results: [],
    "too many": lambda results: [*results, *results],
    "None": lambda results: [None for _ in results],
    "text": lambda results: [{"mean": "high"} for _ in results],
    "raises": failing(RuntimeError("shapes do not match")),
    "NaN": lambda results: [{"mean": float("nan")} for _ in results],
    "nothing": lambda results: [{} for _ in results],
    "another score": lambda results: [{"other": 1.0} for _ in results],
    "a score too many": lambda results: [{"mean": 1.0, "other": 1.0} for _ in results],
    "infinity": lambda results: [{"mean": float("inf")} for _ in results],
}


@pytest.mark.parametrize("name", SCORES)
def test_an_image_that_a_gate_cannot_score_does_not_count(tmp_path, name):
    folder = run(tmp_path, gates=[_Misbehaving(SCORES[name]).wrap(Gate(), "score")])
    verdicts = {image.id: image.verdict for image in folder.generated()}
    assert [name for name, verdict in verdicts.items() if not verdict.valid] == ["scene-1_0"]


CAPTIONS = {
    "too few": lambda results: [],
    "None": lambda results: [None for _ in results],
    "a text": lambda results: ["a clear day" for _ in results],
    "a number": lambda results: [Caption(5) for _ in results],
    "a surrogate": lambda results: [Caption("a clear day \ud800") for _ in results],
    "raises": failing(RuntimeError("shapes do not match")),
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_a_captioner_that_misbehaves_costs_its_source_alone(tmp_path, name):
    folder = run(tmp_path, captioner=_Misbehaving(CAPTIONS[name]).wrap(Captioner(), "caption"))
    sources = {image.source for image in folder.generated()}
    failed = {failure["id"] for failure in folder.failures()}
    assert sources | failed == {f"scene-{i}" for i in range(COUNT)}
    assert name == "a surrogate" or failed == {"scene-1"}
    for file in folder.path.rglob("*.jsonl"):
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_one_item_that_does_not_fit_the_memory_ends_the_run_with_what_helps(tmp_path):
    class Large(Conditioning):
        def control(self, sample, dataset, size):
            if sample.id == "scene-1":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().control(sample, dataset, size)

    with pytest.raises(UserError, match="memory does not suffice for a single item"):
        run(tmp_path, conditionings={"grey": Large()})
    assert run(tmp_path, conditionings={"grey": Conditioning()}).results["counts"]["generated"] == COUNT


CONTROLS = {
    "None": None,
    "no image": Control(None, 1.0),
    "another size": Control(Image.new("RGB", (3, 3)), 1.0),
    "grey": Control(Image.new("L", SIZE), 1.0),
    "no number": Control(Image.new("RGB", SIZE), float("nan")),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_image_of_another_kind_is_an_items_failure(tmp_path, name):
    wrong = CONTROLS[name]

    class Wrong(Conditioning):
        def control(self, sample, dataset, size):
            good = super().control(sample, dataset, size)
            return wrong if sample.id == "scene-1" else good

    folder = run(tmp_path, conditionings={"grey": Wrong()})
    assert {failure["id"] for failure in folder.failures()} == {"scene-1"}
    assert folder.results["counts"]["generated"] == COUNT - 1


PLANS = {
    "None": (None, "list of Variant"),
    "a text": (["foggy"], "list of Variant"),
    "too many": ([Variant({"weather": (value,)}) for value in ("rainy", "foggy")], "at most 1 variant"),
    "no change": ([Variant({})], "changes nothing"),
    "another attribute": ([Variant({"colour": ("red",)})], "expresses no colour"),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_that_breaks_its_contract_is_refused(tmp_path, name):
    plan, message = PLANS[name]

    class Wrong(Random):
        def plan(self, *arguments):
            return plan

    with pytest.raises(UserError, match=rf"edits: Wrong planned .* for scene-0: .*{message}"):
        run(tmp_path, edits=Wrong())


def test_an_editor_that_returns_nothing_costs_its_source(tmp_path):
    class Silent(Editor):
        def keywords(self, caption, vary, label, seed):
            return None

    with pytest.raises(UserError, match="all 4 items of the step keywords failed"):
        run(tmp_path, editor=Silent())
