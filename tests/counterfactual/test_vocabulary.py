import re

import pytest

from dillema.counterfactual.vocabulary import FOLDER, compile_pattern, load_vocabulary
from dillema.errors import UserError

VOCABULARY = load_vocabulary()
OWN = """
attribute: weather
values:
  ashy: {modifier: [ashy], phrase: [under falling ash]}
"""


def test_the_first_form_of_every_list_is_plain_words_and_every_value_can_be_inserted():
    for attribute in VOCABULARY.attributes:
        for value in attribute.values:
            assert "phrase" in value.forms
            for form, patterns in value.forms.items():
                assert re.fullmatch(r"[\w' -]+", patterns[0]), (attribute.name, value.name, form)
                assert all(compile_pattern(pattern) for pattern in patterns)


@pytest.mark.parametrize(
    ("attribute", "name", "value"),
    [
        ("weather", "overcast", "cloudy"),
        ("weather", "rainfall", "rainy"),
        ("weather", "non-precipitating water droplets", "foggy"),
        ("weather", "smoke and pollution", "smoky"),
        ("road surface", "surface contamination", "muddy"),
        ("time of day", "low ambient", "dawn"),
        ("lighting", "artificial illuminance", "artificial"),
        ("weather", "Sunny", "clear"),
        ("time of day", "sunset", "dusk"),
        ("colour", "gray", "grey"),
        ("background", "meadow", "field"),
        ("color", "red", "red"),
    ],
)
def test_values_are_found_by_other_names_and_by_those_of_iso_34503(attribute, name, value):
    assert VOCABULARY.get(attribute).value(name).name == value


def test_a_value_is_written_as_it_is_listed():
    assert VOCABULARY.get("weather").value("overcast").write("modifier") == "overcast"
    assert VOCABULARY.get("weather").value("ashy").write("phrase") == "in ashy weather"
    assert VOCABULARY.get("weather").value("heavy rain").write("phrase") == "in heavy rain"
    assert VOCABULARY.get("mood").value("merry").write("phrase") == "with merry mood"


def test_a_file_of_ones_own_replaces_the_one_of_the_package(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    attribute = load_vocabulary([file]).get("weather")
    assert [value.name for value in attribute.values] == ["ashy"]
    assert attribute.value("ashy").write("phrase") == "under falling ash"


@pytest.mark.parametrize(
    "text",
    ["", "attribute: x", "attribute: x\nvalues: [a]", "a: [", "attribute: x\nvalues: {a: {noun: ['(']}}"],
)
def test_a_file_that_is_no_vocabulary_is_the_users_mistake(tmp_path, text):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(str(file))):
        load_vocabulary([file])
    with pytest.raises(UserError, match="cannot be read"):
        load_vocabulary([tmp_path / "missing.yaml"])
    assert FOLDER.is_dir()
