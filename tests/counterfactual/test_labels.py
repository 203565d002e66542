import pytest

from dillema.counterfactual.labels import label_positions, label_words


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("strawberry", "strawberry strawberries"),
        ("wolf", "wolf wolves"),
        ("mouse, computer mouse", "mouse mice computer"),
        ("person", "person people"),
        ("goose", "goose geese"),
        ("buses", "bus buses"),
        ("golden retriever", "golden retriever retrievers dog dogs puppy puppies"),
        ("sports car, sport car", "sports car cars"),
        ("red fox, Vulpes vulpes", "red fox foxes vulpes"),
        ("tabby, tabby cat", "cat cats kitten"),
        ("bald eagle", "eagle eagles bird birds"),
    ],
)
def test_a_label_has_its_plurals_synonyms_and_kind(label, words):
    assert set(words.split()) <= label_words(label)


def test_other_words_are_free():
    assert not {"red", "snow", "sky"} & label_words("golden retriever, dog")
    assert label_positions("a red car", "") == []


def test_the_words_of_a_label_are_found_with_their_endings():
    text = "the dog's bowl and two Dogs"
    assert [text[start:end] for start, end in label_positions(text, "golden retriever")] == ["dog's", "Dogs"]
