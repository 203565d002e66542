import base64
import io
from math import log

import pytest
from PIL import Image

from dillema.errors import UserError
from dillema.steps.gate import GateItem, GateStep, name_unchanged
from dillema.types import Counterfactual, Edit
from dillema.validity.image import ImageGate
from dillema.validity.questions import (
    CANNOT_TELL,
    MAX_EDITS,
    Question,
    ServerQuestions,
    TransformersQuestions,
)
from tests import tiny
from tests.captioner import checkpoints
from tests.server import serving

STREETS = tiny.dataset(vary={"weather": ["clear", "foggy", "snowy"], "place": []})
CARS = tiny.dataset(
    task="classification", classes=("car", "bus", "tram"), vary={"weather": ["clear", "foggy"]}
)
FOGGY = Counterfactual("a foggy street", (Edit("weather", "sunny", "foggy"),), caption="a sunny street")
PLACEBO = Counterfactual("a sunny street", (), caption="a sunny street")


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    model = checkpoints.qwen3_vl(tmp_path_factory.mktemp("qwen"))
    result = TransformersQuestions(model=model, longest_side=64, dtype="float32", device="cpu", batch_size=2)
    result.load()
    return result


class Recorder(TransformersQuestions):
    """Answers that the first choice is as likely as a test says, and records the questions."""

    def answer(self, questions):
        self.asked = list(questions)
        return [
            [0.7] + [0.3 / (len(question.choices) - 1)] * (len(question.choices) - 1)
            for question in questions
        ]


def ask(counterfactual, dataset, **sample):
    gate = Recorder(model="none")
    (scores,) = gate.score([tiny.sample(**sample)], [counterfactual], [tiny.image(1)], dataset)
    return scores, gate.asked


def test_an_edit_is_asked_about_in_both_images_with_all_values_of_its_attribute():
    scores, asked = ask(FOGGY, STREETS, attributes={"weather": "clear"})
    assert asked[0].prompt == (
        "What is the weather in this image?\nA. clear\nB. foggy\nC. snowy\nD. cannot tell\n"
        "Answer with the letter of the right choice and nothing else."
    )
    assert [question.prompt for question in asked] == [asked[0].prompt] * 2
    assert list(asked[0].image.getdata()) == list(tiny.image(1).getdata())
    assert list(asked[1].image.getdata()) == list(tiny.image(0).getdata())
    assert scores == {"edited": pytest.approx(0.1), "original": 0.7}


def test_without_listed_values_the_two_spans_are_the_choices():
    edits = (Edit("place", "street", "forest road"),)
    _, asked = ask(Counterfactual("a forest road", edits, caption="a street"), STREETS)
    assert asked[0].choices == ("street", "forest road", CANNOT_TELL)


def test_an_old_value_that_is_unknown_is_not_asked_for():
    scores, asked = ask(FOGGY, STREETS)
    assert len(asked) == 1 and set(scores) == {"edited"}


def test_a_label_is_asked_for_among_other_classes_and_placebos_are_asked_too():
    scores, asked = ask(PLACEBO, CARS, label=1)
    assert len(asked) == 2 and set(scores) == {"label", "original_label"}
    assert sorted(asked[0].choices[:-1]) == ["bus", "car", "tram"] and asked[0].choices[-1] == CANNOT_TELL
    assert ask(PLACEBO, CARS, label=1)[1][0].choices == asked[0].choices


def test_more_values_than_letters_are_cut_and_both_values_of_the_edit_stay():
    many = tiny.dataset(vary={"weather": [f"kind {i}" for i in range(40)]})
    edits = (Edit("weather", "kind 38", "kind 39"),)
    _, asked = ask(Counterfactual("kind 39", edits, caption="kind 38"), many)
    choices = asked[0].choices
    assert len(choices) == 26 and {"kind 38", "kind 39"} <= set(choices)


def test_variants_of_one_sample_share_the_questions_about_the_original():
    gate = Recorder(model="none")
    samples = [tiny.sample(attributes={"weather": "clear"})] * 2
    gate.score(samples, [FOGGY, FOGGY], [tiny.image(1), tiny.image(2)], STREETS)
    assert len(gate.asked) == 3


def test_what_the_model_cannot_tell_in_the_original_is_no_reason():
    gate = TransformersQuestions(model="none")
    assert gate.reasons({"edited": 0.2}) == ["probability of what was edited is 0.20, below 0.5"]
    assert gate.reasons({"edited": 0.2, "original": 0.9}) == gate.reasons({"edited": 0.2})
    assert gate.reasons({"edited": 0.2, "original": 0.3}) == []
    assert gate.reasons({"label": 0.2, "original_label": 0.9}) == [
        "probability of the label is 0.20, below 0.5"
    ]
    assert gate.reasons({"label": 0.2, "original_label": 0.4, "edited": 0.9}) == []


class Scripted(TransformersQuestions):
    """Answers by what a test says of each attribute: in the image, and in the original."""

    def answer(self, questions):
        original = list(tiny.image(0).getdata())
        answers = []
        for question in questions:
            attribute = question.text.split()[3]
            probabilities = PROBABILITIES[attribute][list(question.image.getdata()) == original]
            answers.append([probabilities.get(choice, 0.0) for choice in question.choices])
        return answers


PROBABILITIES = {
    "weather": ({"foggy": 0.02, "clear": 0.9}, {"clear": 0.95}),
    "colour": ({"red": 0.01, "blue": 0.3}, {"blue": 0.3}),
}
PAINTED = tiny.dataset(vary={"weather": ["clear", "foggy"], "colour": ["red", "blue"]})
EDITS = (Edit("weather", "clear", "foggy"), Edit("colour", "blue", "red"))


def score_painted(edits, unchanged=()):
    counterfactual = Counterfactual("text", edits, caption="caption", unchanged=unchanged)
    (scores,) = Scripted(model="none").score([tiny.sample()], [counterfactual], [tiny.image(1)], PAINTED)
    return scores


def test_each_edit_is_judged_by_its_own_original():
    scores = score_painted(EDITS)
    assert scores == {"edited": 0.01, "original": 0.3, "edited_2": 0.02, "original_2": 0.95}
    assert scores == score_painted(EDITS[::-1])
    gate = TransformersQuestions(model="none")
    assert gate.reasons(scores) == ["probability of what was edited is 0.02, below 0.5"]
    gate.min_original = 0.2  # as job=judge changes it
    assert [reason[-15:] for reason in gate.reasons(scores)] == ["0.01, below 0.5", "0.02, below 0.5"]
    gate.min_original = 0.99
    assert gate.reasons(scores) == []


def test_a_placebo_is_asked_for_the_old_values_of_what_its_siblings_change():
    scores = score_painted((), unchanged=EDITS)
    assert scores == {"unchanged": 0.3, "original": 0.3, "unchanged_2": 0.9, "original_2": 0.95}
    gate = TransformersQuestions(model="none")
    assert gate.reasons(scores) == []  # what cannot be told in the original is not used against the placebo
    assert gate.reasons({"unchanged": 0.3, "original": 0.8}) == [
        "probability of what was not edited is 0.30, below 0.5"
    ]


def test_only_gates_that_ask_placebos_depend_on_what_their_siblings_change(tmp_path):
    texts = [("0", EDITS[:1]), ("1", (Edit("weather", "clear", "snowy"), EDITS[1])), ("placebo", ())]
    items = [
        GateItem(f"a_{name}", tiny.sample(), "source", Counterfactual("text", edits), tmp_path, name)
        for name, edits in texts
    ]
    named = name_unchanged(items)
    assert named[:2] == items[:2] and named[2].counterfactual.unchanged == EDITS
    for gate, asks in ((ImageGate(), False), (TransformersQuestions(model="none"), True)):
        step = GateStep(gate, PAINTED)
        assert (step.key(named[2]) != step.key(items[2])) == asks
        with_more_values = GateStep(gate, tiny.dataset(vary={**PAINTED.vary, "weather": ["clear", "snowy"]}))
        assert (step.key(items[0]) != with_more_values.key(items[0])) == asks


def test_many_edits_keep_the_scores_of_the_least_probable_ones():
    names = [f"a{i}" for i in range(MAX_EDITS + 2)]
    edits = tuple(Edit(name, "old", "new") for name in names)
    gate = Recorder(model="none")
    counterfactual = Counterfactual("new", edits, caption="old")
    (scores,) = gate.score(
        [tiny.sample()], [counterfactual], [tiny.image(1)], tiny.dataset(vary={name: [] for name in names})
    )
    assert len(scores) == 2 * MAX_EDITS and set(scores) <= set(gate.scores)


def questions():
    choices = ("clear", "foggy", "snowy", CANNOT_TELL)
    short, long = "The weather?", "What is the weather in this image, as far as it can be told?"
    return [Question(tiny.image(seed), long if seed else short, choices[seed:]) for seed in range(3)]


def test_a_batch_answers_as_single_questions_do(gate):
    single = [gate.answer([question])[0] for question in questions()]
    assert gate.answer(questions()) == [pytest.approx(answer, abs=1e-5) for answer in single]
    assert [len(answer) for answer in single] == [4, 3, 2]
    assert all(sum(answer) == pytest.approx(1) for answer in single)
    assert single[0][:2] != pytest.approx([0.25, 0.25], abs=0.01)


def test_a_server_gives_the_scores_of_the_local_model(gate):
    def reply(request, headers):
        image, text = request["messages"][0]["content"]
        picture = Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2])))
        question = next(q for q in questions() if q.prompt == text["text"])
        (answer,) = gate.answer([Question(picture.convert("RGB"), question.text, question.choices)])
        top = [
            {"token": letter, "logprob": log(p), "bytes": None}
            for letter, p in zip("ABCD", answer, strict=False)
        ]
        top.append({"token": " the", "logprob": -9.0, "bytes": None})
        assert request["logprobs"] and request["max_tokens"] == 1
        token = top[0] | {"top_logprobs": top}
        message = {"role": "assistant", "content": "A"}
        choice = {"index": 0, "message": message, "finish_reason": "length", "logprobs": {"content": [token]}}
        return 200, {"id": "1", "object": "chat.completion", "choices": [choice]}

    with serving(reply) as (url, _):
        server = ServerQuestions(model="qwen", base_url=url, longest_side=64)
        server.load()
        answers = server.answer(questions())
    assert answers == [pytest.approx(answer, abs=1e-5) for answer in gate.answer(questions())]


def test_a_server_without_probabilities_is_named():
    with serving(lambda request, headers: "A") as (url, _):
        server = ServerQuestions(model="qwen", base_url=url)
        server.load()
        with pytest.raises(
            UserError, match=r"validity.questions.base_url: .* does not tell the probabilities"
        ):
            server.answer(questions())
