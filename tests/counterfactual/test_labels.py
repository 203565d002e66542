import pytest

from dillema.config import package_file
from dillema.counterfactual.labels import add_synonyms, label_positions, label_words, read_synonyms
from dillema.errors import UserError


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("strawberry", "strawberry strawberries"),
        ("wolf", "wolf wolves"),
        ("mouse, computer mouse", "mouse mice computer"),
        ("person", "person people"),
        ("goose", "goose geese"),
        ("fish", "fish fishes"),
        ("cactus", "cactus cacti cactuses"),
        ("buses", "bus buses"),
        ("golden retriever", "golden retriever retrievers dog dogs puppy puppies"),
        ("Labrador retriever", "labrador labradors retriever dog dogs puppy puppies"),
        ("labrador", "labrador labradors dog dogs puppy puppies"),
        ("golden_retriever", "golden retriever retrievers dog dogs"),
        ("sports car, sport car", "sports car cars"),
        ("red fox, Vulpes vulpes", "red fox foxes vulpes"),
        ("tabby, tabby cat", "cat cats kitten"),
        ("bald eagle", "eagle eagles bird birds"),
    ],
)
def test_a_label_has_its_plurals_synonyms_and_kind(label, words):
    assert set(words.split()) <= label_words(label)


@pytest.mark.parametrize(
    ("label", "words"), [("bus", "bus buses"), ("buses", "bus buses"), ("gas", "gas gases")]
)
def test_a_label_has_no_plural_that_no_dictionary_has(label, words):
    assert label_words(label) == set(words.split())


def test_other_words_are_free():
    assert not {"red", "snow", "sky"} & label_words("golden retriever, dog")
    assert label_positions("a red car", "") == []


def test_the_words_of_a_label_are_found_with_their_endings():
    text = "the dog's bowl and two Dogs"
    assert [text[start:end] for start, end in label_positions(text, "golden retriever")] == ["dog's", "Dogs"]


def test_synonyms_of_word_net_are_read_from_the_list_of_timm():
    pytest.importorskip("timm")
    synonyms = read_synonyms(package_file("timm", "data/_info/imagenet_synset_to_lemma.txt"))
    assert add_synonyms("Tench", synonyms) == "Tench, tinca tinca"
    assert {"taxi", "taxicab", "hack"} < label_words(add_synonyms("cab", synonyms))
    assert add_synonyms("no such thing", synonyms) == "no such thing"


def test_a_list_of_synonyms_of_ones_own(tmp_path):
    file = tmp_path / "synonyms.txt"
    file.write_text("lorry, truck\n\nn1\ttram, Streetcar\n")
    synonyms = read_synonyms(file)
    assert add_synonyms("truck", synonyms) == "truck, lorry"
    assert add_synonyms("tram", synonyms) == "tram, streetcar"
    for encoding in ("utf-8-sig", "utf-16"):  # as Windows saves texts
        marked = tmp_path / f"{encoding}.txt"
        marked.write_text(file.read_text(), encoding=encoding)
        assert read_synonyms(marked) == synonyms
    with pytest.raises(UserError, match=r"prompt\.synonyms: .*none\.txt cannot be read"):
        read_synonyms(tmp_path / "none.txt")
