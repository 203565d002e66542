"""Attributes and values that a user types: misspelt ones are asked about, own ones pass."""

import pytest

from dillema.attribute_check import describe_unknown
from dillema.config_check import check
from dillema.errors import UserError
from dillema.model.logits import find_model_ids
from tests.test_config import composed, find_mistakes


def test_misspelt_attributes_and_values_are_asked_about_all_at_once():
    mistakes = find_mistakes(
        "dataset.vary={wheather: [foggy], weather: [fogy, snowy], time of day: [nigth]}",
        "dataset.where={wether: [clear], weather: [claer]}",
    )
    questions = [mistake.partition(" (")[0] for mistake in mistakes]
    assert questions == [
        "dataset.vary: wheather: did you mean weather?",
        "dataset.vary.weather: fogy: did you mean foggy?",
        "dataset.vary.time of day: nigth: did you mean night?",
        "dataset.where: wether: did you mean weather?",
        "dataset.where.weather: claer: did you mean clear?",
    ]
    assert "give its words in a file of prompt.vocabulary" in mistakes[0]


def test_a_run_in_which_nothing_may_change_is_refused():
    (mistake,) = find_mistakes("dataset.vary={}")
    assert mistake.startswith("dataset.vary: name what may change, as in dataset.vary={weather:")


@pytest.mark.parametrize(
    "vary",
    [
        "{weather: [overcast, drizzly, in the rain], colour: [purple], background: []}",
        "{weather: [volcanic], pose: [sitting, lying]}",
    ],
)
def test_words_of_the_vocabulary_and_values_of_one_s_own_pass(vary):
    check(composed("dataset=folder", f"dataset.vary={vary}"))


def test_a_misspelt_value_in_a_retraining_is_asked_about_too():
    (mistake,) = find_mistakes("job=retrain", "dataset.vary={weather: [snwoy]}")
    assert mistake.startswith("dataset.vary.weather: snwoy: did you mean snowy?")


def test_filters_of_shift_know_its_own_values():
    assert find_mistakes("dataset=shift", "dataset.where={weather_corse: [rainy]}") == [
        "dataset.where: weather_corse: did you mean weather_coarse?"
    ]
    assert find_mistakes("dataset=shift", "dataset.where.timeofday_coarse=[dawn-dusk, night]") == [
        "dataset.where.timeofday_coarse: dawn-dusk: did you mean dawn/dusk?"
    ]
    check(composed("dataset=shift", "+dataset.where.town=[10HD]"))


def test_a_value_in_a_vocabulary_of_one_s_own_is_meant(tmp_path):
    own = tmp_path / "weather.yaml"
    own.write_text("attribute: weather\nvalues:\n  foggi: {phrase: [in the foggi of our town]}\n")
    check(composed("dataset.vary={weather: [foggi]}", f"prompt.vocabulary=[{own}]"))
    (mistake,) = find_mistakes("dataset.vary={weather: [foggi]}", "prompt.vocabulary=[/nowhere.yaml]")
    assert mistake.startswith("prompt.vocabulary: /nowhere.yaml cannot be read")


def test_what_captions_will_say_is_shown_for_values_without_words():
    vary = "dataset.vary={weather: [volcanic, foggy], pose: [sitting]}"
    weather, unseen, pose, *_ = describe_unknown(composed(vary))
    assert weather.startswith("dataset.vary.weather: the vocabulary has no words for volcanic: captions say ")
    assert "'in volcanic weather'" in weather and "'with sitting pose'" in pose
    assert "the small world has no volcanic, only clear, cloudy" in unseen
    assert len(list(describe_unknown(composed("dataset=folder", vary)))) == 2
    assert not list(describe_unknown(composed()))


def test_a_misspelt_class_in_a_class_map_is_asked_about():
    with pytest.raises(UserError, match=r"no class 'pedestrain'; did you mean pedestrian\? It has 2"):
        find_model_ids({"pedestrain": 1}, 2, ["road", "pedestrian"])
