from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import root

from dillema.predictions import COUNTERFACTUAL, PLACEBO
from dillema.statistics import summary, truth
from dillema.statistics.effect_model import EffectModel
from dillema.types import Edit
from tests.labels import SEGMENTATION
from tests.statistics.outcomes import FOG, NIGHT, RED, REJECTED, answer, losses, pixels

SNOW, DUSK = Edit("weather", "clear", "snowy"), Edit("time of day", "day", "dusk")


def placebo_run(table):
    """Returns predictions of 40 sources: the generator costs 8 right answers, fog 12 more, red none."""
    sources = [f"s{i:02}" for i in range(40)]
    outcomes = [(source, [FOG], answer(0), answer(int(i < 20))) for i, source in enumerate(sources)]
    outcomes += [(source, [RED], answer(0), answer(int(i < 8))) for i, source in enumerate(sources)]
    return table(outcomes, placebos={source: answer(int(i < 8)) for i, source in enumerate(sources)})


def test_the_generators_part_is_told_from_that_of_the_edit(table):
    figures = summary(placebo_run(table), 0, valid=True)
    placebo = figures["placebo"]
    assert (placebo["original"], placebo["placebo"], placebo["drop"]) == (1, 0.8, pytest.approx(0.2))
    assert placebo["low"] < 0.2 < placebo["high"] and placebo["p"] < 0.02
    assert (placebo["n"], placebo["sources"], placebo["groups"], placebo["rough"]) == (40, 40, 40, True)
    fog, red = figures["per_attribute"]
    assert (fog["drop"], fog["edit_drop"]) == (pytest.approx(0.5), pytest.approx(0.3))
    assert fog["edit_low"] < 0.3 < fog["edit_high"] and fog["harmful"] is True
    # its drop is as significant as the placebo's, and is the placebo's
    assert red["p_adjusted"] < 0.02 and red["edit_drop"] == 0 and red["edit_p_adjusted"] == 1
    assert red["harmful"] is False
    assert (
        figures["edit_drop"] == pytest.approx(figures["drop"] - placebo["drop"])
        and figures["harmful"] is True
    )


def test_an_original_counts_as_often_as_it_has_counterfactuals_on_both_sides(table):
    outcomes = [("a", [FOG], answer(0), answer(1)) for _ in range(3)] + [("b", [FOG], answer(0), answer(0))]
    figures = summary(table(outcomes, placebos={"a": answer(1), "b": answer(0)}), 0, valid=True)
    assert figures["drop"] == pytest.approx(3 / 4) and figures["edit_drop"] == 0
    assert (figures["edit_n"], figures["placebo"]["n"], figures["placebo"]["drop"]) == (4, 2, 0.5)
    partly = summary(table(outcomes, placebos={"b": answer(0)}), 0, valid=True)
    assert (partly["edit_n"], partly["edit_drop"], partly["edit_p"]) == (1, 0, None)


@pytest.mark.parametrize(("count", "harmful"), [(5, False), (12, True)])
def test_edits_of_a_handful_of_sources_are_never_called_harmful(table, count, harmful):
    sources = [f"s{i:02}" for i in range(count)]
    outcomes = [(source, [FOG], answer(0), answer(1)) for source in sources]
    figures = summary(table(outcomes, placebos=dict.fromkeys(sources, answer(0))), 0, valid=True)
    assert figures["edit_drop"] == 1 and figures["harmful"] is harmful
    assert [row["harmful"] for row in figures["per_attribute"]] == [harmful]


def test_a_run_without_placebos_calls_nothing_harmful(table):
    figures = summary(table(losses(30, 30)), 0, valid=True)
    assert figures["placebo"] is figures["harmful"] is figures["edit_drop"] is None
    (row,) = figures["per_attribute"]
    assert row["harmful"] is row["edit_p_adjusted"] is None and row["p"] < 0.001


def random_run(table, placebos, seed=0):
    """Returns predictions of 30 sources with three counterfactuals of one to three edits each."""
    random = np.random.default_rng(seed)
    outcomes = []
    for i in range(30):
        for _ in range(3):
            edits = [
                edit for edit in ([FOG, SNOW][random.integers(2)], [NIGHT, DUSK][random.integers(2)], RED)
            ]
            edits = [edit for edit in edits if random.random() < 0.6] or [RED]
            wrong = 0.1 + 0.5 * (FOG in edits) + 0.3 * (NIGHT in edits)
            outcomes.append((f"s{i:02}", edits, answer(0), answer(int(random.random() < wrong))))
    records = {f"s{i:02}": answer(int(random.random() < 0.1)) for i in range(30)}
    return table(outcomes, placebos=records if placebos else {})


@pytest.mark.parametrize("placebos", [True, False])
def test_effects_are_those_of_a_poisson_regression_on_the_reference(table, placebos):
    predictions = random_run(table, placebos)
    before, after = predictions.pairs(reference=PLACEBO if placebos else "original")
    values = sorted({(e.attribute, e.replacement) for edits in predictions.combinations for e in edits})
    design = np.zeros((len(after), len(values)))
    for i, row in enumerate(after):
        for edit in predictions.combinations[predictions.combination[row]]:
            design[i, values.index((edit.attribute, edit.replacement))] = 1
    reference, score = (predictions.tallies[rows, 0].astype(float) for rows in (before, after))

    def equations(logarithms):
        return design.T @ (score - reference * np.exp(design @ logarithms))

    expected = root(equations, np.zeros(len(values))).x
    model = EffectModel(predictions, 0)
    for i, value in enumerate(values):
        base = reference[design[:, i] > 0].mean()
        effect = model.effect(value)
        assert effect["effect"] == pytest.approx(base * (1 - np.exp(expected[i])), abs=1e-6)
        assert effect["effect_low"] < effect["effect"] < effect["effect_high"] and effect["always_with"] == []
        assert (effect["effect_p"] < 0.025) == (effect["effect_low"] > 0) or effect["effect_p"] < 0.05


def test_what_costs_little_in_the_dark_still_costs_by_day(table):
    """Rain halves what is right, and so does the night: together they leave a quarter."""
    rain, share = Edit("weather", "clear", "rainy"), {(): 800, ("rainy",): 400, ("night",): 400}
    share["rainy", "night"] = 200
    outcomes, start = [], pixels((0, 0, 900), (0, 1, 100), (1, 1, 1000))
    for i in range(30):
        for edits in ([rain, NIGHT], [rain, NIGHT], [NIGHT], [[rain], [RED, NIGHT]][i % 5 > 0]):
            right = share[tuple(e.replacement for e in edits if e.attribute != "colour")]
            after = pixels((0, 0, right), (0, 2, 1000 - right), (1, 1, right), (1, 2, 1000 - right))
            outcomes.append((f"s{i:02}", edits, start, after))
    placebo = pixels((0, 0, 800), (0, 2, 200), (1, 1, 800), (1, 2, 200))
    placebos = {f"s{i:02}": placebo for i in range(30)}
    figures = summary(table(outcomes, SEGMENTATION, placebos=placebos), 0, valid=True)
    rows = {row["to"]: row for row in figures["per_value"]}
    metric = 0.8 * 2 / 2  # two scored classes, of which 80 % are right
    assert rows["rainy"]["effect"] == pytest.approx(rows["night"]["effect"], abs=1e-6)
    assert rows["rainy"]["effect"] == pytest.approx(metric / 2, abs=0.15) and rows["rainy"]["harmful"]
    assert rows["red"]["effect"] == pytest.approx(0, abs=1e-6) and rows["red"]["harmful"] is False


def test_the_company_of_an_edit_is_not_held_against_it(table):
    """Red cars come with fog more often than not; fog alone costs the answer."""
    outcomes = []
    for i in range(40):
        for edits in ([FOG, RED], [FOG, RED], [RED], [FOG]):
            outcomes.append((f"s{i:02}", edits, answer(0), answer(int(FOG in edits and i % 2 == 0))))
    figures = summary(table(outcomes, placebos={f"s{i:02}": answer(0) for i in range(40)}), 0, valid=True)
    rows = {row["to"]: row for row in figures["per_value"]}
    assert rows["red"]["drop"] == pytest.approx(1 / 3) and rows["red"]["edit_p_adjusted"] < 0.01
    assert rows["red"]["effect"] == pytest.approx(0, abs=1e-6) and rows["red"]["harmful"] is False
    assert rows["foggy"]["effect"] == pytest.approx(0.5) and rows["foggy"]["harmful"] is True
    by_edit = {row["to"]: row for row in figures["per_attribute"]}
    assert by_edit["red"]["effect"] == rows["red"]["effect"]


def test_an_edit_is_not_harmful_where_its_images_lose_no_more_than_their_placebos(table):
    """Fog costs, but comes mostly with a colour that helps as much."""
    random, outcomes, shares = np.random.default_rng(0), [], {FOG: 0.8, RED: 1.25}

    def picture(edits):
        right = int(600 * np.prod([shares[edit] for edit in edits]) + random.normal(0, 50))
        return pixels((0, 0, right), (0, 1, 1000 - right), (1, 1, right), (1, 0, 1000 - right))

    for i in range(48):
        for edits in ([FOG, RED], [FOG, RED], [RED], [FOG] if i % 4 == 0 else [RED]):
            outcomes.append((f"s{i:02}", edits, picture([]), picture(edits)))
    placebos = {f"s{i:02}": picture([]) for i in range(48)}
    figures = summary(table(outcomes, SEGMENTATION, placebos=placebos), 0, valid=True)
    fog = {row["to"]: row for row in figures["per_value"]}["foggy"]
    assert fog["effect_p"] < 0.005 and fog["effect_low"] > 0
    assert fog["edit_drop"] > 0 > fog["edit_low"] and fog["edit_p_adjusted"] > 0.1
    assert fog["harmful"] is False and fog["harm_p"] == pytest.approx(fog["edit_p"] / 2)


def test_edits_that_always_come_together_are_not_told_apart(table):
    outcomes = [
        (f"s{i:02}", edits, answer(0), answer(1)) for i in range(20) for edits in ([FOG, NIGHT], [RED])
    ]
    figures = summary(table(outcomes, placebos={f"s{i:02}": answer(0) for i in range(20)}), 0, valid=True)
    rows = {row["to"]: row for row in figures["per_value"]}
    assert rows["foggy"]["effect"] is rows["foggy"]["effect_low"] is rows["foggy"]["harmful"] is None
    assert rows["foggy"]["always_with"] == [["time of day", "night"]]
    assert rows["night"]["always_with"] == [["weather", "foggy"]]
    assert rows["red"]["effect"] == pytest.approx(1) and rows["red"]["always_with"] == []


def test_rare_values_are_one_nuisance_in_the_model(table, monkeypatch):
    monkeypatch.setattr("dillema.statistics.effect_model.MAX_VALUES", 2)
    outcomes = []
    for i in range(30):
        rare = Edit("weather", "clear", f"word {i}")
        for edits in ([NIGHT], [RED], [NIGHT, RED], [rare, RED]):
            outcomes.append((f"s{i:02}", edits, answer(0), answer(int(rare in edits))))
    model = EffectModel(table(outcomes), 0)
    assert model.effect(("colour", "red"))["effect"] == pytest.approx(0, abs=1e-6)
    assert model.effect(("weather", "word 3"))["effect"] is None


def test_estimates_are_held_against_the_truth(table):
    outcomes = [(f"s{i:02}", [FOG], answer(0), answer(int(i < 12))) for i in range(20)]
    outcomes += [(f"s{i:02}", [NIGHT], answer(0), answer(int(i < 4))) for i in range(20)]
    outcomes += [(f"s{i:02}", [RED], answer(0), answer(0), REJECTED) for i in range(20)]
    renders = [answer(int(i < 10)) for i in range(20)] + [answer(int(i < 5)) for i in range(20)]
    figures = truth(table(outcomes, renders=[*renders, *[answer(0)] * 20]), 0)
    assert (figures["n"], figures["sources"], figures["groups"]) == (40, 20, 20)
    assert (figures["estimated"], figures["true"]) == (pytest.approx(16 / 40), pytest.approx(15 / 40))
    assert figures["error"] == pytest.approx(1 / 40) and figures["low"] <= 1 / 40 <= figures["high"]
    assert figures["mean_absolute_error"] == pytest.approx((2 / 20 + 1 / 20) / 2)
    fog, night = sorted(figures["per_attribute"], key=lambda row: row["to"])
    assert (fog["estimated"], fog["true"]) == (pytest.approx(0.6), pytest.approx(0.5))
    assert (fog["effect"], fog["true_effect"]) == (pytest.approx(0.6), pytest.approx(0.5))
    assert (night["effect"], night["true_effect"]) == (pytest.approx(0.2), pytest.approx(0.25))
    assert figures["effect_mean_absolute_error"] == pytest.approx((0.1 + 0.05) / 2)
    assert truth(table(outcomes), 0) is None


@pytest.mark.slow
def test_harmless_edits_are_called_harmful_seldom_and_costly_ones_nearly_always(table):
    """48 sources with three counterfactuals of random edits; a segmenter whose images scatter by 5 points."""
    colours = [Edit("colour", "blue", name) for name in ("red", "white", "black", "yellow")]
    weathers = [Edit("weather", "clear", name) for name in ("foggy", "snowy", "rainy")]
    random, good = np.random.default_rng(0), pixels((0, 0, 600), (1, 1, 400))
    outcomes = []
    for i in range(48):
        for _ in range(3):
            edits = [
                group[random.integers(len(group))] for group in (colours, weathers) if random.random() < 0.7
            ]
            outcomes.append((f"s{i:02}", edits or [colours[0]], good, good))
    predictions = table(outcomes, SEGMENTATION, placebos={f"s{i:02}": good for i in range(48)})
    costs = {("weather", "foggy"): 0.15, ("weather", "snowy"): 0.2}
    changed = np.isin(predictions.kind, (COUNTERFACTUAL, PLACEBO))
    cost = np.array(
        [sum(costs.get((e.attribute, e.replacement), 0) for e in c) for c in predictions.combinations]
    )
    called = {"harmless": [], "costly": []}
    for seed in range(40):
        share = 0.9 - 0.14 * changed - cost[predictions.combination] + random.normal(0, 0.05, len(changed))
        tallies = predictions.tallies.copy()
        for column, size in ((0, 600), (1, 400)):  # hits of sky and road
            tallies[:, column] = np.clip(share * size, 0, size)
        figures = summary(replace(predictions, tallies=tallies), seed, valid=True)
        for row in figures["per_value"]:
            costly = (row["attribute"], row["to"]) in costs
            called["costly" if costly else "harmless"].append(row["harmful"] is True)
    assert np.mean(called["harmless"]) <= 0.05
    assert np.mean(called["costly"]) >= 0.95
