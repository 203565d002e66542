import itertools
from collections import Counter

import numpy as np
import pytest

from dillema.counterfactual.edits import Pairwise, Random, Single, covering_array
from dillema.types import Expression, Variant

VARY = {
    "weather": ["clear", "cloudy", "rainy", "foggy", "snowy"],
    "time of day": ["daytime", "dusk", "night"],
    "colour": ["white", "black", "red", "blue", "green", "yellow"],
}
STRATEGIES = [Random(), Random(choices=4), Random(choices=1), Single(), Pairwise()]


def draw_vary(rng):
    """A random `vary`, in which some attributes have no listed values."""
    attributes = [f"a{i}" for i in range(int(rng.integers(1, 6)))]
    return {a: [f"{a} v{j}" for j in range(int(rng.integers(0, 6)))] for a in attributes}


def draw_expressions(rng, vary):
    """Random expressions: attributes are missing, not expressed, or expressed by a listed value."""
    expressions = {}
    for attribute, values in vary.items():
        value = str(rng.choice(values)) if values and rng.random() < 0.7 else ""
        span = value.upper() if value and rng.random() < 0.5 else str(rng.choice(["", "other words"]))
        if rng.random() < 0.9:
            expressions[attribute] = Expression(span, value)
    return expressions


def outcomes(variant):
    """All that a language model may make of a variant."""
    choices = itertools.product(*(values or ("any",) for values in variant.values()))
    return {tuple(zip(variant, values, strict=True)) for values in choices}


def set_of_plans(strategy, sources, count=3, seed=0):
    rng = np.random.default_rng(seed)
    plans = {}
    for i in range(sources):
        expressions = {
            a: Expression(str(v), str(v)) for a, values in VARY.items() for v in [rng.choice(values)]
        }
        plans[f"s{i}"] = (expressions, strategy.plan(f"s{i}", expressions, VARY, count, seed))
    return plans


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_variants_differ_from_the_sample_and_from_one_another_whatever_is_chosen(strategy):
    rng = np.random.default_rng(0)
    for trial in range(200):
        vary = draw_vary(rng)
        expressions = draw_expressions(rng, vary)
        plan = strategy.plan(f"s{trial}", expressions, vary, 6, seed=trial)
        for changes in (v.changes for v in plan):
            assert 1 <= len(changes) <= 3 and changes.keys() <= expressions.keys()
            for attribute, values in changes.items():
                span, value = expressions[attribute].span.casefold(), expressions[attribute].value.casefold()
                assert set(values) <= set(vary[attribute]) and not {span, value} & {
                    v.casefold() for v in values
                }
                assert bool(values) == bool(vary[attribute])
        for x, y in itertools.combinations([v.changes for v in plan], 2):
            assert x.keys() != y.keys() or outcomes(x).isdisjoint(outcomes(y))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_more_variants_leave_the_earlier_ones_as_they_are(strategy):
    rng = np.random.default_rng(1)
    for trial in range(100):
        vary = draw_vary(rng)
        expressions = draw_expressions(rng, vary)
        longest = strategy.plan(f"s{trial}", expressions, vary, 9, seed=trial)
        for count in range(9):
            assert strategy.plan(f"s{trial}", expressions, vary, count, seed=trial) == longest[:count]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_plans_follow_from_the_sample_and_the_seed(strategy):
    plans = set_of_plans(strategy, 20)
    again = dict(reversed(set_of_plans(strategy, 30).items()))
    assert all(again[sample] == plan for sample, plan in plans.items())
    assert set_of_plans(strategy, 20, seed=1) != plans
    expressions = {a: Expression("") for a in VARY}
    assert len({repr(strategy.plan(f"s{i}", expressions, VARY, 3, 0)) for i in range(20)}) > 8


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_all_values_come_up(strategy):
    plans = [plan for _, plan in set_of_plans(strategy, 40).values()]
    uses = Counter((a, values[0]) for plan in plans for v in plan for a, values in v.changes.items())
    assert uses.keys() == {(a, value) for a, values in VARY.items() for value in values}


@pytest.mark.parametrize("strategy", [Random(choices=1), Random(), Single()], ids=repr)
def test_the_variants_of_a_sample_take_different_values_as_long_as_there_are_any(strategy):
    for i in range(50):
        expressions = {"colour": Expression("red", "red"), "weather": Expression("")}
        plan = strategy.plan(f"s{i}", expressions, VARY, 4, seed=0)
        for attribute, most in (("colour", 5), ("weather", 5)):
            values = [v.changes[attribute] for v in plan if attribute in v.changes]
            assert len(set(itertools.chain(*values))) == min(sum(map(len, values)), most)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_there_are_no_more_variants_than_differ(strategy):
    vary = {"time of day": ["day", "night", "dusk"], "weather": ["clear"]}
    expressions = {"time of day": Expression("Day", ""), "weather": Expression("", "clear")}
    plan = strategy.plan("s", expressions, vary, 9, seed=0)
    assert sorted(v.changes["time of day"] for v in plan) == [("dusk",), ("night",)]
    assert strategy.plan("s", {}, vary, 9, seed=0) == []


def test_random_changes_one_to_three_attributes_and_leaves_choices():
    variants = [v.changes for _, plan in set_of_plans(Random(choices=2), 40).values() for v in plan]
    assert {len(v) for v in variants} == {1, 2, 3}
    choices = [sum(len(values) > 1 for values in v.values()) for v in variants]
    assert set(choices) == {0, 1} and 0.15 < np.mean(choices) < 0.5


def test_single_changes_one_attribute_and_attributes_take_turns():
    for _, plan in set_of_plans(Single(), 24).values():
        assert sorted(a for v in plan for a in v.changes) == sorted(VARY)


def test_pairwise_brings_every_pair_of_values_together_over_samples():
    pairs_in_captions = set()
    for expressions, plan in set_of_plans(Pairwise(), 100).values():
        for variant in plan:
            values = {
                a: variant.changes[a][0] if a in variant.changes else e.value for a, e in expressions.items()
            }
            pairs_in_captions.update(itertools.combinations(values.items(), 2))
    cells = [[(a, v) for v in values] for a, values in VARY.items()]
    pairs = {pair for x, y in itertools.combinations(cells, 2) for pair in itertools.product(x, y)}
    assert pairs <= pairs_in_captions


@pytest.mark.parametrize("sizes", [(2, 2), (3, 5, 6), (4, 4, 4, 4, 4), (7,), (2, 0, 3), ()])
def test_the_covering_array_is_complete_and_short(sizes):
    levels = tuple((f"a{i}", tuple(f"v{j}" for j in range(size)) or ("",)) for i, size in enumerate(sizes))
    rows = covering_array(levels, 0)
    cells = [[(a, v) for v in values] for a, values in levels]
    pairs = {pair for x, y in itertools.combinations(cells, 2) for pair in itertools.product(x, y)}
    assert pairs <= {pair for row in rows for pair in itertools.combinations(row, 2)}
    assert all(len(row) <= 3 for row in rows)
    if len(sizes) > 2:
        assert len(rows) < len(pairs)


def test_free_attributes_may_change_to_anything():
    vary = {"season": [], "background": [], "weather": ["clear", "rainy"]}
    expressions = {
        "season": Expression("winter"),
        "background": Expression(""),
        "weather": Expression("clear", "clear"),
    }
    for strategy in STRATEGIES:
        plan = strategy.plan("s", expressions, vary, 9, seed=0)
        assert len(plan) == (3 if isinstance(strategy, Single) else 7)
        assert {values for v in plan for values in v.changes.values()} == {(), ("rainy",)}
        assert all(isinstance(v, Variant) for v in plan)
