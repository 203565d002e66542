import itertools
from collections import Counter

import numpy as np
import pytest

from dillema.counterfactual.edits import Pairwise, Random, Single

VARY = {
    "weather": ["clear", "cloudy", "rainy", "foggy", "snowy"],
    "time of day": ["daytime", "dusk", "night"],
    "colour": ["white", "black", "red", "blue", "green", "yellow"],
}
ALL = [Random(), Random(choices=4), Single(), Pairwise()]


def sources(number, vary=VARY, seed=0):
    rng = np.random.default_rng(seed)
    return {f"s{i}": {a: str(rng.choice(values)) for a, values in vary.items()} for i in range(number)}


def outcomes(variant):
    """All that a language model may make of a variant."""
    return {tuple(zip(variant, values, strict=True)) for values in itertools.product(*variant.values())}


@pytest.mark.parametrize("edits", ALL, ids=repr)
def test_variants_of_a_source_differ_from_it_and_from_one_another(edits):
    spans = sources(30)
    for source, variants in edits.plan(spans, VARY, 5, seed=3).items():
        assert len(variants) == 5
        assert all(1 <= len(v) <= 3 for v in variants)
        assert all(value in VARY[a] and value != spans[source][a] for v in variants for a, values in v.items() for value in values)
        assert all(outcomes(v).isdisjoint(outcomes(w)) for v, w in itertools.combinations(variants, 2))


@pytest.mark.parametrize("edits", ALL, ids=repr)
def test_all_values_come_up_whatever_the_language_model_prefers(edits):
    used = Counter(
        (a, values[0]) for variants in edits.plan(sources(24), VARY, 3, seed=0).values() for v in variants for a, values in v.items() if len(values) == 1
    )
    assert used.keys() == {(a, value) for a, values in VARY.items() for value in values}


@pytest.mark.parametrize("edits", ALL, ids=repr)
def test_plans_depend_on_the_seed_alone(edits):
    plan = edits.plan(sources(10), VARY, 3, seed=1)
    assert edits.plan(sources(10), VARY, 3, seed=1) == plan
    assert edits.plan(sources(10), VARY, 3, seed=2) != plan
    longer = edits.plan(sources(20), VARY, 3, seed=1)  # more sources leave the first ones as they are
    assert type(edits) is Random or {s: longer[s] for s in plan} == plan


def test_random_changes_one_to_three_attributes_and_leaves_choices():
    variants = [v for variants in Random(choices=2).plan(sources(40), VARY, 3, seed=0).values() for v in variants]
    assert {len(v) for v in variants} == {1, 2, 3}
    sizes = Counter(len(values) for v in variants for values in v.values())
    assert sizes.keys() == {1, 2} and sizes[2] > 20


def test_single_changes_one_attribute():
    variants = [v for variants in Single().plan(sources(24), VARY, 3, seed=0).values() for v in variants]
    assert {len(v) for v in variants} == {1}
    assert {a for v in variants for a in v} == VARY.keys()


def test_pairwise_brings_every_pair_of_values_together():
    for spans in (sources(24), {f"s{i}": {"weather": "Clear", "time of day": "daytime", "colour": "red"} for i in range(24)}):
        seen = set()
        for source, variants in Pairwise().plan(spans, VARY, 3, seed=0).items():
            for v in variants:
                after = {a: v[a][0] if a in v else span.lower() for a, span in spans[source].items()}
                seen.update(itertools.combinations(sorted(after.items()), 2))
        pairs = {
            tuple(sorted(p))
            for (a, vs), (b, ws) in itertools.combinations(VARY.items(), 2)
            for p in itertools.product([(a, v) for v in vs], [(b, w) for w in ws])
        }
        assert pairs <= seen


@pytest.mark.parametrize("edits", ALL, ids=repr)
def test_attributes_that_a_caption_lacks_are_left_alone(edits):
    plan = edits.plan({"a": {"colour": "pink"}, "b": {}, "c": {"weather": "clear", "time of day": "dusk"}}, VARY, 3, seed=0)
    assert [set(v) for v in plan["a"]] == [{"colour"}] * 3
    assert plan["b"] == []
    assert len(plan["c"]) == 3 and all(set(v) <= {"weather", "time of day"} for v in plan["c"])


@pytest.mark.parametrize("edits", ALL, ids=repr)
def test_there_are_no_more_variants_than_differ(edits):
    vary = {"time of day": ["day", "night", "dusk"], "weather": ["clear"]}
    plan = edits.plan({"s": {"time of day": "Day", "weather": "clear"}}, vary, 9, seed=0)
    assert sorted(v["time of day"] for v in plan["s"]) == [("dusk",), ("night",)]


@pytest.mark.parametrize("edits", ALL, ids=repr)
def test_attributes_without_listed_values_are_free(edits):
    vary = {"season": [], "background": [], "weather": ["clear", "rainy"]}
    plan = edits.plan({"s": {"season": "winter", "background": "beach", "weather": "clear"}}, vary, 9, seed=0)
    assert len(plan["s"]) == (3 if isinstance(edits, Single) else 7)
    assert len({tuple(sorted(v)) for v in plan["s"]}) == len(plan["s"])
    assert {values for v in plan["s"] for values in v.values()} == {(), ("rainy",)}
