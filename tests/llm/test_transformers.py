import json
import re

import pytest

from dillema.config import build
from dillema.errors import ItemError, UserError
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


def test_a_reply_that_is_cut_is_that_items_error(folder):
    with pytest.raises(ItemError, match=r"llm\.max_new_tokens") as caught:
        loaded(folder, max_new_tokens=20).ask(question("sea"), schema("long", pattern="^[a-z]{100}$"), 0)
    assert caught.value.raw.startswith('{"long"')


def test_a_model_without_a_chat_template_is_named(tmp_path):
    with pytest.raises(UserError, match="has no chat template"):
        loaded(save(tmp_path, None))
