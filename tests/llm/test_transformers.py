import json
import re

import pytest
import torch

from dillema.config import build
from dillema.errors import ItemError, UserError
from dillema.execution import in_threads
from dillema.llm.sampling import Sampler
from dillema.llm.transformers import TransformersLanguageModel
from tests.llm.checkpoints import TEMPLATE, save
from tests.llm.test_llama_cpp import COLOUR, WORDS, question, schema
from tests.test_config import composed

pytest.importorskip("xgrammar")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("llm"), TEMPLATE)


def loaded(folder, **fields):
    llm = TransformersLanguageModel(folder, dtype="float32", **fields)
    llm.load()
    return llm


def test_replies_fit_the_schema_whatever_the_model_would_say(folder):
    llm = build(
        composed(
            "llm=qwen3_4b_transformers", f"llm.model={folder}", "llm.dtype=float32", "llm.temperature=3"
        ).llm
    )
    llm.load()
    for seed in range(3):
        reply = json.loads(llm.ask(question('{}\n"]'), WORDS, seed))
        assert reply.keys() == {"mood"} and re.fullmatch(
            WORDS["properties"]["mood"]["pattern"], reply["mood"]
        )
        assert json.loads(llm.ask(question("sea"), COLOUR, seed)) in ({"colour": "blue"}, {"colour": "red"})


def test_replies_depend_on_nothing_but_the_question_and_the_seed(folder):
    llm = loaded(folder, temperature=1.0)
    questions = [(question(text), WORDS, seed) for text in ("sea", "sky") for seed in (0, 1)]
    replies = [llm.ask(*q) for q in questions]
    assert len(set(replies)) == 4
    assert [llm.ask(*q) for q in reversed(questions)] == replies[::-1]
    greedy = loaded(folder, temperature=0)
    assert greedy.ask(question("sea"), WORDS, 0) == greedy.ask(question("sea"), WORDS, 1)


def test_a_batch_changes_no_reply_and_takes_fewer_passes(folder):
    turns = question("sea")[:1]
    questions = [
        ([*turns, {"role": "user", "content": "a walk by the sea " * n}], WORDS if n % 2 else COLOUR, seed)
        for n in range(1, 5)
        for seed in (0, 1)
    ]
    questions.append(([{"role": "user", "content": "no system turn"}], WORDS, 0))
    alone = loaded(folder, temperature=1.0, batch_size=1)
    expected = [alone.ask(*q) for q in questions]
    together = loaded(folder, temperature=1.0, batch_size=len(questions))
    passes = []
    generate = together._network.generate
    together._network.generate = lambda ids, **options: passes.append(len(ids)) or generate(ids, **options)
    assert in_threads(lambda q: together.ask(*q), questions) == expected
    assert len(set(expected)) > 4
    assert max(passes) >= 4 and len(passes) < len(questions)


def test_one_reply_of_a_batch_that_is_cut_is_that_items_error_alone(folder):
    llm = loaded(folder, max_new_tokens=30, batch_size=2)
    questions = [(question("sea"), schema("long", pattern="^[a-z]{100}$"), 0), (question("sea"), COLOUR, 0)]
    cut, whole = in_threads(lambda q: llm.ask(*q), questions)
    assert isinstance(cut, ItemError)
    assert json.loads(whole)["colour"] in ("blue", "red")


def test_a_choice_that_rounding_can_change_is_doubtful():
    logits = torch.tensor([[5.0, 5.0001, -9.0], [5.0, 1.0, -9.0], [float("-inf"), 2.0, float("-inf")]])
    for temperature in (0.0, 0.1):
        rows = {
            row
            for seed in range(20)
            for row in _doubtful(temperature, [seed] * 3, logits)
        }  # fmt: skip
        assert (rows == {0}) if not temperature else (2 not in rows)
    finished = Sampler(0.0, 1.0, [0], 1e-3, [2])
    finished(None, torch.tensor([[0.0, 0.0, 9.0]]))
    finished(None, torch.tensor([[1.0, 1.0, 0.0]]))
    assert finished.doubtful == set()


def _doubtful(temperature, seeds, logits):
    sampler = Sampler(temperature, 0.9, seeds, 1e-3, [])
    taken = sampler(None, logits)
    assert (taken > float("-inf")).sum(-1).tolist() == [1, 1, 1]
    return sampler.doubtful


def test_samples_follow_the_probabilities_of_the_nucleus():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(4000, 1)
    taken = Sampler(1.0, 0.9, range(4000), 0.0, [])(None, logits).argmax(-1)
    shares = torch.bincount(taken, minlength=4) / 4000
    assert shares.tolist() == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=0.03)


def test_a_reply_that_is_cut_is_that_items_error(folder):
    with pytest.raises(ItemError, match=r"llm\.max_new_tokens") as caught:
        loaded(folder, max_new_tokens=20).ask(question("sea"), schema("long", pattern="^[a-z]{100}$"), 0)
    assert caught.value.raw.startswith('{"long"')


def test_a_model_without_a_chat_template_is_named(tmp_path):
    with pytest.raises(UserError, match="has no chat template"):
        loaded(save(tmp_path, None))
