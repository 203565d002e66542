import json
import time

import pytest

from dillema.errors import ItemError, UserError
from dillema.llm.openai import OpenAILanguageModel
from tests.server import chat, serving

SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
QUESTION = [{"role": "user", "content": "which?"}]


def ask(url, **fields):
    llm = OpenAILanguageModel("some-model", url, **fields)
    llm.load()
    return llm.ask(QUESTION, SCHEMA, 7)


def test_what_is_asked_arrives():
    with serving(lambda request, headers: "{}") as (url, requests):
        assert ask(url, temperature=0.5, top_p=0.85, max_tokens=9) == "{}"
    (request,) = requests
    assert (request["model"], request["messages"], request["seed"]) == ("some-model", QUESTION, 7)
    assert (request["temperature"], request["top_p"], request["max_tokens"]) == (0.5, 0.85, 9)
    json_schema = {"name": "reply", "schema": SCHEMA, "strict": True}
    assert request["response_format"] == {"type": "json_schema", "json_schema": json_schema}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status):
    refusals = [status, status]
    with serving(lambda request, headers: (refusals.pop(), {"error": "busy"}) if refusals else "{}") as (
        url,
        requests,
    ):
        assert ask(url) == "{}"
        assert len(requests) == 3


def test_a_server_that_stays_busy_is_given_up_for_this_item():
    with serving(lambda request, headers: (500, {"error": {"message": "out of memory"}})) as (url, requests):
        with pytest.raises(ItemError, match=r"did not answer: .*out of memory"):
            ask(url, retries=1)
        assert len(requests) == 2


def test_a_slow_server_is_not_waited_for():
    with (
        serving(lambda request, headers: time.sleep(1) or "{}") as (url, _),
        pytest.raises(ItemError, match=r"did not answer: .*timed out.*llm\.timeout=0\.2 sec"),
    ):
        ask(url, timeout=0.2, retries=0)


def test_no_server_is_said_at_once():
    with pytest.raises(
        UserError,
        match=r"llm\.base_url: no server answers at http://127\.0\.0\.1:9/v1.*refused(?s:.)*llm=smollm2",
    ):
        ask("http://127.0.0.1:9/v1")


def test_a_model_that_the_server_lacks_ends_the_run():
    unknown = 404, {"error": {"message": "some-model does not exist"}}
    message = r"llm\.model .*has no model some-model.*does not exist"
    with serving(lambda request, headers: unknown) as (url, _), pytest.raises(UserError, match=message):
        ask(url)


def test_the_key_comes_from_the_environment_and_is_never_told(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with serving(lambda request, headers: headers["Authorization"].removeprefix("Bearer ")) as (url, _):
        assert ask(url, api_key_variable="MY_KEY") == "sk-secret"
    for status, kind in ((401, UserError), (403, UserError), (400, ItemError), (404, UserError)):

        def answer(request, headers, status=status):
            return status, {"error": {"message": f"you sent {headers['Authorization']}"}}

        with serving(answer) as (url, _), pytest.raises(kind) as caught:
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


def failure(answer, **fields):
    with serving(answer) as (url, _), pytest.raises(ItemError) as caught:
        ask(url, **fields)
    return caught.value


def test_a_reply_that_was_cut_is_that_items_error():
    error = failure(lambda request, headers: (200, chat('{"colour": "r', "length")))
    assert "llm.max_tokens" in str(error) and error.raw == '{"colour": "r'


@pytest.mark.parametrize("body", ["<html>welcome</html>", [1, 2], {"choices": []}, {"choices": [{}]}])
def test_an_answer_that_is_no_chat_is_that_items_error(body):
    error = failure(lambda request, headers: (200, body))
    assert "is no chat completion; does llm.base_url end in /v1?" in str(error) and error.raw


@pytest.mark.parametrize("part", [b'{"choices": [', b'{"choices": "\xe9\xff"}'])
def test_an_answer_that_is_no_json_is_that_items_error(part):
    assert "is no JSON" in str(failure(lambda request, headers: (200, iter([part]))))


def drops(seconds):
    while True:
        yield b" "
        time.sleep(seconds)


@pytest.mark.parametrize("status", [200, 400])
def test_a_response_that_comes_in_drips_is_cut_off(status):
    start = time.monotonic()
    error = failure(lambda request, headers: (status, drops(0.05)), timeout=0.5, retries=1)
    assert "timed out" in str(error)
    assert time.monotonic() - start < 2 * 0.5 + 2  # the client waits before it sends again


def test_a_huge_response_is_not_kept():
    error = failure(lambda request, headers: (200, chat("x" * 5_000_000)), retries=3)
    assert "larger than 1000000 bytes" in str(error)
    with serving(lambda request, headers: "x" * 50_000) as (url, _):
        assert ask(url) == "x" * 10_000


def test_what_is_no_text_is_left_out_of_a_reply():
    content = r'"\ud83d\ude00 \ud800 \u001b[2Jred\u0000"'
    body = '{"choices": [{"finish_reason": "stop", "message": {"content": ' + content + "}}]}"
    with serving(lambda request, headers: (200, iter([body.encode()]))) as (url, _):
        assert ask(url) == "\N{GRINNING FACE} ? [2Jred"


def refusing(*names):
    """Returns a server like those of OpenAI's newer models, which refuse parameters."""

    def answer(request, headers):
        for name in names:
            if name in request:
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                return 400, {"error": {"message": message, "param": name, "code": "unsupported_parameter"}}
        return json.dumps(sorted(request.keys() - {"model", "messages", "response_format"}))

    return answer


def test_a_server_is_sent_what_it_takes():
    with serving(refusing("max_tokens", "temperature", "seed")) as (url, requests):
        llm = OpenAILanguageModel("some-model", url)
        llm.load()
        replies = [json.loads(llm.ask(QUESTION, SCHEMA, 7)) for _ in range(2)]
    assert replies == [["max_completion_tokens", "top_p"]] * 2
    assert len(requests) == 4 + 1  # what was refused is remembered


def test_a_refused_parameter_without_which_nothing_can_be_asked_is_named():
    message = r"llm\.response_format: .* takes another one"
    with serving(refusing("response_format")) as (url, _), pytest.raises(UserError, match=message):
        ask(url)
    error = failure(refusing("max_tokens", "max_completion_tokens"))
    assert "max_completion_tokens" in str(error)
