import time

import pytest

from dillema.errors import ItemError, UserError
from dillema.llm.openai import OpenAILanguageModel
from tests.server import chat, serving

SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"], "additionalProperties": False}
QUESTION = [{"role": "user", "content": "which?"}]


def ask(url, **fields):
    llm = OpenAILanguageModel("some-model", url, **fields)
    llm.load()
    return llm.ask(QUESTION, SCHEMA, 7)


def test_what_is_asked_arrives():
    with serving(lambda request, headers: "{}") as (url, requests):
        assert ask(url, temperature=0.5, max_tokens=9) == "{}"
    (request,) = requests
    assert (request["model"], request["messages"], request["seed"], request["temperature"], request["max_tokens"]) == ("some-model", QUESTION, 7, 0.5, 9)
    assert request["response_format"] == {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True}}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status):
    refusals = [status, status]
    with serving(lambda request, headers: (refusals.pop(), {"error": "busy"}) if refusals else "{}") as (url, requests):
        assert ask(url) == "{}"
        assert len(requests) == 3


def test_a_server_that_stays_busy_is_given_up_for_this_item():
    with serving(lambda request, headers: (500, {"error": {"message": "out of memory"}})) as (url, requests):
        with pytest.raises(ItemError, match=r"did not answer: .*out of memory"):
            ask(url, retries=1)
        assert len(requests) == 2


def test_a_slow_server_is_not_waited_for():
    with serving(lambda request, headers: time.sleep(1) or "{}") as (url, _), pytest.raises(ItemError, match=r"did not answer: .*timed out"):
        ask(url, timeout=0.2, retries=0)


def test_no_server_is_said_at_once():
    with pytest.raises(UserError, match=r"llm\.base_url: no server answers at http://127\.0\.0\.1:9/v1.*refused(?s:.)*llm=smollm2"):
        ask("http://127.0.0.1:9/v1")


def test_a_model_that_the_server_lacks_ends_the_run():
    unknown = 404, {"error": {"message": "some-model does not exist"}}
    with serving(lambda request, headers: unknown) as (url, _), pytest.raises(UserError, match=r"llm\.model .*has no model some-model.*does not exist"):
        ask(url)


def test_the_key_comes_from_the_environment_and_is_never_told(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with serving(lambda request, headers: headers["Authorization"].removeprefix("Bearer ")) as (url, _):
        assert ask(url, api_key_variable="MY_KEY") == "sk-secret"
    for status, kind in ((401, UserError), (403, UserError), (400, ItemError), (404, UserError)):
        with serving(lambda request, headers, status=status: (status, {"error": {"message": f"you sent {headers['Authorization']}"}})) as (url, _):
            with pytest.raises(kind) as caught:
                ask(url, api_key_variable="MY_KEY")
            assert "sk-secret" not in str(caught.value)
    assert "sk-secret" not in repr(OpenAILanguageModel("some-model", url, api_key_variable="MY_KEY"))


def test_a_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with (
        serving(lambda request, headers: (401, {"error": "no key"})) as (url, _),
        pytest.raises(UserError, match=r"OPENAI_API_KEY .* is not set"),
    ):
        ask(url)


def test_what_is_no_chat_or_was_cut_is_that_items_error():
    with serving(lambda request, headers: (200, chat('{"colour": "r', "length"))) as (url, _), pytest.raises(ItemError, match=r"llm\.max_tokens") as caught:
        ask(url)
    assert caught.value.raw == '{"colour": "r'
    with serving(lambda request, headers: (200, "<html>welcome</html>")) as (url, _), pytest.raises(ItemError, match="something else than a chat") as caught:
        ask(url)
    assert "welcome" in caught.value.raw
