import pytest

from dillema.counterfactual.phrases import rewrite_by_phrases
from dillema.counterfactual.vocabulary import load_vocabulary
from dillema.counterfactual.words import is_english
from dillema.types import Edit, Expression

VOCABULARY = load_vocabulary()


def rewrite(text, label="", **edits):
    """Rewrites a text; `edits` are (span, value) by attribute."""
    names = {name.replace("_", " "): edit for name, edit in edits.items()}
    expressions = {name: Expression(span) for name, (span, _) in names.items()}
    values = {name: value for name, (_, value) in names.items()}
    return rewrite_by_phrases(text, VOCABULARY, expressions, values, label)


@pytest.mark.parametrize(
    ("text", "edits", "expected"),
    [
        # in place, with its article
        ("a rainy street", {"weather": ("rainy", "icy")}, "an icy street"),
        ("An orange car and an ox", {"colour": ("orange", "red")}, "A red car and an ox"),
        ("a foggy day. Foggy all over", {"weather": ("foggy", "rainy")}, "a rainy day. Rainy all over"),
        ("a white cat on a black mat", {"colour": ("white", "black")}, "a black cat on a black mat"),
        ("a red car and a red bus", {"colour": ("red", "blue")}, "a blue car and a blue bus"),
        ("a bluish bus and a blue car", {"colour": ("blue", "red")}, "a bluish bus and a red car"),
        # the same form of the new value
        ("a man in the rain at night", {"weather": ("in the rain", "foggy")}, "a man in thick fog at night"),
        ("a car at night", {"time_of_day": ("at night", "daytime")}, "a car during the day"),
        ("a road on a winter night", {"time_of_day": ("night", "dusk")}, "a road on a winter evening"),
        ("At night, cars stop.", {"time_of_day": ("At night", "dusk")}, "At dusk, cars stop."),
        ("a sunset over a bridge", {"time_of_day": ("sunset", "night")}, "a night sky over a bridge"),
        ("It is snowing. A dog plays.", {"weather": ("It is snowing", "foggy")}, "It is foggy. A dog plays."),
        ("a snow-covered car", {"weather": ("snow-covered", "foggy")}, "a car in thick fog"),
        # all that says it
        ("a sunny road, blue sky", {"weather": ("sunny", "foggy")}, "a foggy road, misty sky"),
        ("A CAR", {"weather": ("", "foggy")}, "A CAR IN THICK FOG"),
        ("a rainy and windy day", {"weather": ("rainy", "snowy")}, "a snowy day"),
        # insertion
        ("a street with parked cars", {"weather": ("", "foggy")}, "a street with parked cars in thick fog"),
        ("A dog sleeps. It is old.", {"time_of_day": ("", "night")}, "A dog sleeps at night. It is old."),
        ("an empty room", {"weather": ("", "rainy")}, "an empty room with rain outside"),
        ("a cat on a sofa", {"weather": ("", "rainy")}, "a cat on a sofa with rain outside"),
        ("geese", {"weather": ("", "foggy"), "place": ("", "office")}, "geese in an office with fog outside"),
        ("a sofa", {"weather": ("", "rainy"), "place": ("", "beach")}, "a sofa on a beach in the rain"),
        ("a sign that says stop", {"weather": ("", "snowy")}, "a sign that says stop, in falling snow"),
        ("a truck blocks a lane", {"colour": ("", "blue")}, "a blue truck blocks a lane"),
        ("a traffic jam", {"colour": ("", "white")}, "a traffic jam, the whole scene in shades of white"),
        ("an old wooden table", {"colour": ("", "red")}, "an old red wooden table"),
        ("an umbrella", {"colour": ("", "red")}, "a red umbrella"),
        ("Umbrellas by the sea", {"colour": ("", "red")}, "Red umbrellas by the sea"),
        ("a chair", {"colour": ("", "red"), "material": ("", "wooden")}, "a red wooden chair"),
        ("a road at dusk", {"road_surface": ("", "wet")}, "a wet road at dusk"),
        ("a street", {"mood": ("", "gloomy")}, "a street with gloomy mood"),
        ("a man at a bus stop in fog", {"colour": ("", "red")}, "a man in red at a bus stop in fog"),
        ("Two kids run at noon", {"colour": ("", "blue")}, "Two kids in blue run at noon"),
        ("a road under a blue sky", {"colour": ("", "red")},
         "a road under a blue sky, the whole scene in shades of red"),
        ("a square with a market", {"colour": ("", "red")},
         "a square with a market, the whole scene in shades of red"),
        ("here, the road is wet", {"colour": ("", "red")},
         "here, the road is wet, the whole scene in shades of red"),
        # once, and nothing that cannot be
        ("a rainy, foggy and cold day", {"weather": ("rainy", "foggy")}, "a foggy and cold day"),
        ("rain, wind and clouds", {"weather": ("rain", "clear")}, "clear sky"),
        ("a car with snow on its roof", {"weather": ("snow", "foggy")}, "a car in thick fog"),
        ("a street after the rain", {"weather": ("after the rain", "snowy")}, "a street in falling snow"),
        ("a dog in the afternoon sun", {"time_of_day": ("afternoon", "night")}, "a dog in the night air"),
        ("the sun sets here", {"time_of_day": ("the sun sets", "night")}, "the moon is shining here"),
        ("shops open as night falls", {"time_of_day": ("as night falls", "dawn")}, "shops open at dawn"),
        ("on a cold and windy day", {"time_of_day": ("day", "dusk")}, "on a cold and windy evening"),
        ("a road that was wet this morning", {"time_of_day": ("this morning", "night")},
         "a road that was wet tonight"),
        ("on a bright sunny day", {"time_of_day": ("day", "night")}, "on a clear night"),
        ("he reads on a moonlit night", {"time_of_day": ("on a moonlit night", "dusk")}, "he reads at dusk"),
        ("a full moon rises", {"time_of_day": ("", "daytime")}, "the sun rises during the day"),
        # places
        ("a dog runs along a beach", {"place": ("beach", "kitchen")}, "a dog runs through a kitchen"),
        ("a kite over the mountains", {"place": ("mountains", "lake")}, "a kite over the lake"),
        ("a dog on a sunny beach", {"background": ("beach", "forest")}, "a dog in a sunny forest"),
        ("cows in fields", {"background": ("fields", "desert")}, "cows in a desert"),
        ("a dog on a beach", {"background": ("beach", "old bridge")}, "a dog on an old bridge"),
        ("a dog on a beach", {"background": ("beach", "city street")}, "a dog on a city street"),
        ("a parked car", {"place": ("", "train station")}, "a parked car at a train station"),
        ("a boat near the beach", {"background": ("beach", "city")}, "a boat near the city"),
        ("a duck swimming in a pond", {"place": ("pond", "forest")}, "a duck resting in a forest"),
        ("a zebra drinks from a river", {"place": ("river", "forest")}, "a zebra drinks in a forest"),
        # a second place is behind the scene, and a place comes before weather and time
        ("a fox in a zoo", {"place": ("", "forest")}, "a fox in a zoo with a forest in the background"),
        ("a dog by a barn", {"place": ("", "mountains")},
         "a dog by a barn with a mountain valley in the background"),
        ("a fox in the snow", {"weather": ("in the snow", "rainy"), "place": ("", "kitchen")},
         "a fox in the rain with a kitchen in the background"),
        ("a fox in the snow", {"weather": ("in the snow", "rainy"), "place": ("", "city")},
         "a fox in a city in the rain"),
        ("a fox on a cold night", {"time_of_day": ("night", "dusk"), "place": ("", "city")},
         "a fox in a city on a cold evening"),
        ("a dog on a beach in the rain", {"weather": ("in the rain", "snowy"), "place": ("beach", "kitchen")},
         "a dog in a kitchen with snow outside"),
        # what cannot be said of a thing, and in a number that it lacks
        ("a misty bridge", {"weather": ("misty", "cloudy")}, "a bridge under a cloudy sky"),
        ("a misty summer day", {"weather": ("misty", "cloudy")}, "a cloudy summer day"),
        ("a mist-shrouded bridge", {"weather": ("mist-shrouded", "rainy")}, "a bridge in the rain"),
        ("a kite under blue skies", {"weather": ("blue skies", "rainy")}, "a kite under rainy skies"),
        ("clouds over a town", {"weather": ("clouds", "snowy")}, "snow clouds over a town"),
        ("a car under a layer of snow", {"weather": ("under a layer of snow", "foggy")},
         "a car in thick fog"),
        # in the clause and beside the words that it is about
        ("men ski here; some fall", {"weather": ("", "foggy")}, "men ski here in thick fog; some fall"),
        ("a man is here, but he left", {"weather": ("", "foggy")}, "a man is here in thick fog, but he left"),
        ("a dog with a ball in its mouth", {"weather": ("", "foggy")},
         "a dog with a ball in its mouth, in thick fog"),
        ("a room with a chair", {"weather": ("", "rainy")}, "a room with a chair, with rain outside"),
        ("men and women walk", {"colour": ("", "red")}, "men and women in red walk"),
        ("It is dark. A road is wet.", {"colour": ("", "red")},
         "It is dark. A road is wet, the whole scene in shades of red."),
        ("a man naps while we eat", {"weather": ("", "foggy")}, "a man naps in thick fog while we eat"),
        ("a fox in a zoo", {"weather": ("", "foggy"), "place": ("", "forest")},
         "a fox in a zoo in thick fog, with a forest in the background"),
        ("a bed in a study", {"weather": ("", "foggy"), "place": ("", "forest")},
         "a bed in a study with fog outside and a forest in the background"),
        ("a bathroom with a sink", {"place": ("bathroom", "forest")}, "a forest with a sink"),
        ("a boat on a calm lake", {"place": ("lake", "forest")}, "a boat in a forest"),
        ("a restaurant kitchen", {"place": ("kitchen", "beach")}, "a beach"),
        ("strawberries on a plate at home", {"colour": ("", "red")}, "strawberries on a red plate at home"),
        ("wolves in snow", {"colour": ("", "red")}, "red wolves in snow"),
        ("Mrs. Brown runs here", {"colour": ("", "red")}, "Mrs. Brown in red runs here"),
        ("a man that runs", {"colour": ("", "red")}, "a man in red that runs"),
        ("there isn't a cloud over the town at all", {"colour": ("", "red")},
         "there isn't a cloud over the town at all, the whole scene in shades of red"),
        ("there isn't a cloud in the sky, but ice", {"weather": ("there isn't a cloud in the sky", "foggy")},
         "it is foggy, but ice"),
        ("a snow covered car", {"weather": ("snow covered", "foggy")}, "a car in thick fog"),
        ("Dr. Green and her friend read", {"colour": ("", "red")}, "Dr. Green and her friend in red read"),
        ("a T-shirt", {"colour": ("", "red")}, "a red T-shirt"),
        ("Mr. White's shop", {"colour": ("", "red")}, "Mr. White's shop, the whole scene in shades of red"),
        ("een rode auto in de sneeuw", {"colour": ("", "red"), "weather": ("", "rainy")},
         "een rode auto in de sneeuw, in the rain, the whole scene in shades of red"),
        ("a man waits, snow piling up on his hat", {"weather": ("snow", "rainy")}, "a man waits in the rain"),
        ("snow covers the road", {"weather": ("snow covers", "foggy")}, "fog hangs over the road"),
        ("shut on Sunday evenings", {"time_of_day": ("evenings", "daytime")}, "shut on Sunday afternoons"),
        ("a night game", {"time_of_day": ("night", "dusk")}, "a game at dusk"),
        ("under the blazing midday sun", {"time_of_day": ("midday", "night")}, "in the night air"),
        ("a dog in the morning sun", {"weather": ("", "rainy")}, "a dog in the morning in the rain"),
        ("a snowy slope", {"weather": ("snowy", "rainy")}, "a slope in the rain"),
        ("a vase on the windowsill of a bathroom", {"place": ("bathroom", "forest")},
         "a vase on the windowsill in a forest"),
        ("a bear walks through a field", {"place": ("field", "beach")}, "a bear walks along a beach"),
        ("a parking meter", {"colour": ("", "red")}, "a red parking meter"),
        ("workers carry signs", {"colour": ("", "red")}, "workers carry red signs"),
        ("an umbrella: 5 euros", {"weather": ("", "rainy")}, "an umbrella: 5 euros in the rain"),
        ("two hats to sell: 5 euro", {"weather": ("", "rainy")}, "two hats to sell in the rain: 5 euro"),
        ("a cat looks out at the rain", {"place": ("", "beach")},
         "a cat looks out at the rain with a beach in the background"),
        ("it rained all week, so we stayed",
         {"weather": ("it rained", "foggy"), "colour": ("", "red")},
         "it was foggy all week, so we stayed, the whole scene in shades of red"),
        ("a car covered with a light dusting of snow",
         {"weather": ("covered with a light dusting of snow", "foggy")}, "a car in thick fog"),
        ("Snow White on a poster", {"colour": ("", "red")}, "Snow White on a red poster"),
        ("a city with snow on the ground and lights", {"weather": ("with snow on the ground", "foggy")},
         "a city in thick fog with lights"),
        ("trams meet in mist", {"colour": ("", "red")}, "red trams meet in mist"),
        ("snow covers the road", {"weather": ("snow covers", "clear")}, "the sky is clear over the road"),
        ("a cat in somebody's yard", {"place": ("yard", "forest")}, "a cat in a forest"),
        ("a cat in her office", {"place": ("office", "forest")}, "a cat in a forest"),
        ("closed from 8 a.m. to 6 p.m.", {"colour": ("", "red"), "weather": ("", "rainy")},
         "closed from 8 a.m. to 6 p.m. in the rain, the whole scene in shades of red"),
        ("Blue Note, a club", {"colour": ("", "red")}, "Blue Note, a club, the whole scene in shades of red"),
        ("zebras on the dry plains", {"place": ("", "city")},
         "zebras on the dry plains with a city in the background"),
        ("a learner driver stalls here", {"colour": ("", "red")}, "a learner driver in red stalls here"),
        ("a rank at 6 a.m.", {"time_of_day": ("at 6 a.m.", "night")}, "a rank at night"),
        ("skis in fresh powder snow", {"weather": ("in fresh powder snow", "cloudy")},
         "skis under a cloudy sky"),
        ("an opera house", {"colour": ("", "red")}, "a red opera house"),
        ("an ape high up in the canopy", {"place": ("", "beach")},
         "an ape high up in the canopy with a beach in the background"),
        ("men clear the road", {"weather": ("", "rainy")}, "men clear the road in the rain"),
        ("two cups, one of them red", {"weather": ("", "rainy")}, "two cups, one of them red, in the rain"),
        ("a ship at sea", {"place": ("sea", "kitchen")}, "a ship in a kitchen"),
        ("kids on an old football field", {"place": ("field", "city")}, "kids in an old city"),
        ("a ship in the deep sea", {"place": ("sea", "beach")}, "a ship on the beach"),
        ("a ship under heavy grey clouds", {"weather": ("under heavy grey clouds", "clear")},
         "a ship in clear weather"),
        ("a bike in downtown Rome", {"place": ("", "beach")},
         "a bike in downtown Rome with a beach in the background"),
        ("ducks on a pond in a city park", {"place": ("pond", "beach")}, "ducks on a beach"),
        ("a chair with a book on it", {"weather": ("", "rainy")}, "a chair with a book on it, in the rain"),
        # contradictions
        ("it is not night yet, but soon", {"time_of_day": ("", "night")}, "it is night, but soon"),
        ("No snow this winter, but ice", {"weather": ("", "snowy")}, "Snow this winter, but ice"),
        ("a sunny street", {"time_of_day": ("", "night")}, "a clear street at night"),
        ("a street without snow", {"weather": ("", "snowy")}, "a street in falling snow"),
        ("a day under the stars", {"time_of_day": ("", "daytime")}, "a day during the day"),
        # words that a language model chose
        ("a dreary moor", {"weather": ("dreary", "foggy")}, "a foggy moor"),
        ("a house in the gloaming", {"time_of_day": ("gloaming", "night")}, "a house at night"),
    ],
)  # fmt: skip
def test_the_sentence_is_right(text, edits, expected):
    result, _ = rewrite(text, **edits)
    assert result == expected


def test_the_edits_hold_the_words_that_were_written():
    _, edits = rewrite("a red car", colour=("red", "blue"), weather=("", "foggy"))
    assert edits == (Edit("colour", "red", "blue"), Edit("weather", "", "foggy", "in thick fog"))


@pytest.mark.parametrize(
    ("text", "label", "edits", "expected"),
    [
        ("a red ox, a red bus", "red ox", {"colour": ("", "blue")},
         "a red ox, a red bus, the whole scene in shades of blue"),
        ("a fog bank in fog", "fog bank", {"weather": ("", "rainy")}, "a fog bank in fog in the rain"),
        ('the word "red" here', "", {"colour": ("", "blue")},
         'the word "red" here, the whole scene in shades of blue'),
        ('a "red" sign', "", {"colour": ("", "blue")},
         'a "red" sign, the whole scene in shades of blue'),
        ("the White House", "", {"colour": ("", "blue")},
         "the White House, the whole scene in shades of blue"),
        ("Mr. White waits", "", {"colour": ("", "blue")}, "Mr. White in blue waits"),
        ("a girl called Dawn", "", {"time_of_day": ("", "night")}, "a girl called Dawn at night"),
    ],
)  # fmt: skip
def test_labels_quotations_and_names_stay(text, label, edits, expected):
    result, _ = rewrite(text, label, **edits)
    assert result == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a red car in the snow", True),
        ("Umbrellas", True),
        ("een rode auto in de sneeuw", False),
        ("ein Hund auf der Straße", False),
    ],
)
def test_captions_in_other_languages_are_told_by_their_function_words(caption, expected):
    assert is_english(caption) is expected


def test_memory_does_not_grow_with_the_captions_of_a_run():
    for number in range(3000):
        is_english(f"a street, number {number}")
    assert is_english.cache_info().currsize <= 1000
