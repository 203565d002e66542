"""Servers that misbehave: bounded in time and size, recorded, and nothing of them is unescaped on a page."""

import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from dillema.captioner.openai import OpenAICaptioner
from dillema.counterfactual.dialogue import ask_model
from dillema.errors import ItemError, UserError
from dillema.llm.openai import OpenAILanguageModel
from dillema.server import MAX_REPLY
from tests.backends import Noise

from .servers import ANSWERS, BEHAVIOURS, PATHS, RECORDED, RIGHT, misbehaving

TIMEOUT, RETRIES, ATTEMPTS = 1.5, 1, 1
THREADS = 12
SLACK = 6  # seconds for the waits between two attempts, and for a busy machine
SCHEMA = {
    "type": "object",
    "properties": {"weather": {"type": "string", "enum": ["clear", "foggy"]}},
    "required": ["weather"],
    "additionalProperties": False,
}
# what no captioner can tell from a caption
CAPTIONS = {
    "no JSON",
    "another word",
    "an unknown key",
    "another type",
    "NaN",
    "an injection",
    "markup",
    "a huge number",
    "a key twice, the wrong value last",
    "control characters",
    "a lone surrogate",
    "a deep list",
    "a deep mapping",
    "many braces",
    "filtered",
}


def outcome(ask):
    """Returns the kind of an outcome, its value or message, and the seconds that it took."""
    start = time.monotonic()
    try:
        kind, value = "answers", ask()
    except ItemError as error:
        kind, value = "recorded", f"{error} {error.raw}"
    except UserError as error:
        kind, value = "refused", str(error)
    return kind, value, time.monotonic() - start


def expected(name):
    return "answers" if name in ANSWERS else "recorded" if name in RECORDED else "refused"


def settings(address, name):
    return {"model": "m", "base_url": f"{address}/{PATHS[name]}/v1", "timeout": TIMEOUT, "retries": RETRIES}


def ask_language_model(address, name):
    llm = OpenAILanguageModel(**settings(address, name))
    llm.load()
    question = [{"role": "user", "content": "a clear day"}]
    return ask_model(llm, "keywords", question, SCHEMA, 0, attempts=ATTEMPTS)


def ask_captioner(address, name):
    captioner = OpenAICaptioner(**settings(address, name))
    captioner.load()
    (caption,) = captioner.caption(Noise(count=1).samples(), None, [0])
    if isinstance(caption, Exception):
        raise caption
    return caption.text


def outcomes(ask):
    with misbehaving() as address, ThreadPoolExecutor(THREADS) as threads:
        asked = {name: threads.submit(outcome, lambda name=name: ask(address, name)) for name in BEHAVIOURS}
        return {name: future.result() for name, future in asked.items()}


@pytest.fixture(scope="module")
def memory():
    return psutil.Process().memory_info().rss


def test_a_language_model_that_misbehaves_costs_its_item_or_is_named(memory):
    assert len(BEHAVIOURS) >= 37
    found = outcomes(ask_language_model)
    assert {name: kind for name, (kind, _, _) in found.items() if kind != expected(name)} == {}
    assert {
        name: seconds for name, (*_, seconds) in found.items() if seconds > (RETRIES + 1) * TIMEOUT + SLACK
    } == {}
    assert all(value == {"weather": "clear"} for name, (_, value, _) in found.items() if name in ANSWERS)
    for name, (kind, text, _) in found.items():
        if kind != "answers":
            assert 0 < len(text) < 2 * MAX_REPLY, name
            assert text.encode() and not {*map(chr, range(32))} - {"\n", "\t"} & {*text}, name
    assert psutil.Process().memory_info().rss - memory < 300e6


@pytest.mark.slow
def test_a_captioner_that_misbehaves_costs_its_item_or_is_named(memory):
    found = outcomes(ask_captioner)
    wrong = {
        name: (kind, text)
        for name, (kind, text, _) in found.items()
        if kind != expected(name)
        and not (kind == "answers" and name in CAPTIONS)
        and name != "refuses the format of replies"
    }
    assert wrong == {}
    assert {
        name: seconds for name, (*_, seconds) in found.items() if seconds > (RETRIES + 1) * TIMEOUT + SLACK
    } == {}
    for name, (_, text, _) in found.items():
        assert 0 < len(text) < 2 * MAX_REPLY and text.encode(), name
        assert not {*map(chr, range(32))} - {"\n", "\t"} & {*text}, name
    assert found["good"][1] == RIGHT
    assert psutil.Process().memory_info().rss - memory < 300e6
