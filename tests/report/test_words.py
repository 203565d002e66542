"""What the page says about figures."""

from dillema import predictions
from dillema.report import words
from dillema.run_folder import Labels
from dillema.statistics import summarise
from dillema.types import Edit, Verdict

FIGURES = {
    "metric": "mean_iou", "sources": 124, "groups": 124, "images": 261, "drop": 0.123, "low": 0.081,
    "high": 0.16,
    "level": 0.95, "rough": False, "original": {"mean_iou": 0.5}, "counterfactual": {"mean_iou": 0.377},
    "placebo": {"drop": 0.14, "low": 0.1, "high": 0.18, "original": 0.5, "placebo": 0.36},
    "per_value": [],
}  # fmt: skip
ROW = {
    "attribute": "weather",
    "to": "foggy",
    "groups": 20,
    "drop": 0.3,
    "low": 0.2,
    "high": 0.4,
    "edit_drop": 0.2,
    "harmful": True,
    "always_with": [],
}


def test_a_drop_and_a_rise_have_one_sign_through_the_sentence():
    first, placebo, harm = words.verdict("net", FIGURES | {"per_value": [ROW]})
    assert first == (
        "Mean IoU of net drops by 12.3 points (95 % interval: 8.1 to 16.0), from 50.0 % to 37.7 %, "
        "on 261 valid counterfactuals of 124 sources."
    )
    assert placebo == (
        "Where nothing was changed, the generator alone does this: "
        "mean IoU drops by 14.0 points (10.0 to 18.0)."
    )
    assert harm == "1 edit is harmful by itself: weather → foggy."
    rise = words.verdict("net", FIGURES | {"drop": -0.02, "low": -0.03, "high": 0.01, "rough": True})[0]
    assert (
        "rises by 2.0 points (95 % interval, rough with so few sources: \N{MINUS SIGN}1.0 to 3.0), "
        "which may be chance" in rise
    )


def test_no_single_name_is_hidden():
    names = list("abcdefg")
    assert words.join_names(names[:6], 5) == "a, b, c, d, e, f"
    assert words.join_names(names, 5) == "a, b, c, d, e and 2 more"


def test_long_times_are_in_minutes_and_hours():
    times = [words.duration(value) for value in (84.24, 2208.1, 9000)]
    assert times == ["84.2 seconds", "37 minutes", "2.5 hours"]


def test_few_sources_get_one_message_and_no_verdict():
    few = FIGURES | {"sources": 2, "groups": 2, "per_value": [ROW]}
    assert words.verdict("net", few) == [
        "No verdict about net: too few sources to be sure: 2, at least 6 are needed."
    ]
    assert words.worst_conditions(few) == [] and not words.is_significant(few, 0.95)
    frames = FIGURES | {"groups": 3}
    assert "too few groups of sources to be sure: 3" in words.verdict("net", frames)[0]


def test_without_gates_nothing_is_called_valid():
    sentences = words.verdict("net", FIGURES, checked=False)
    assert "on 261 counterfactuals of 124 sources" in sentences[0]
    assert sentences[1] == "No gate checked the images: whether their labels still hold is not known."
    assert words.verdict("net", FIGURES | {"drop": None}) == [
        "No counterfactual is valid, so nothing can be said about net."
    ]


def test_a_model_that_fails_on_the_originals_is_named_first():
    figures = FIGURES | {"near_chance": True, "chance": 0.48, "dead_classes": ["pole"]}
    chance, dead, verdict, *_ = words.verdict("net", figures)
    assert (
        "on the originals its mean IoU is 50.0 %, and always giving the most common answer reaches 48.0 %"
        in chance
    )
    assert "it never recognises this class: pole" in dead and "class_map" in dead and "drops by" in verdict


def test_without_placebos_that_is_said():
    sentences = words.verdict("net", FIGURES | {"placebo": None})
    assert sentences[1].startswith("No image was painted from its unchanged caption")


def test_the_worst_conditions_are_harmful_ones_in_the_order_of_the_drop_that_is_shown():
    rows = [
        ROW | {"to": "few", "drop": 0.9, "edit_drop": 0.8, "harmful": True, "groups": 3},
        ROW | {"to": "as the placebo", "drop": 0.5, "edit_drop": 0.1, "harmful": False},
        ROW | {"to": "fog", "drop": 0.4, "edit_drop": 0.3, "harmful": True},
        ROW | {"to": "night", "drop": 0.35, "edit_drop": 0.34, "harmful": True},
        ROW | {"to": "unclear", "drop": 0.3, "edit_drop": 0.3, "harmful": None},
    ]
    figures = FIGURES | {"per_value": rows}
    assert [row["to"] for row in words.worst_conditions(figures)] == ["fog", "night"]
    rows = [row | {"p_adjusted": p} for row, p in zip(rows, (0.01, 0.01, 0.2, 0.01, 0.01), strict=True)]
    without = FIGURES | {"placebo": None, "per_value": rows}
    assert [row["to"] for row in words.worst_conditions(without)] == ["as the placebo", "night", "unclear"]


def test_what_costs_most_by_itself_is_the_worst_condition():
    rows = [
        ROW | {"to": "fog, mostly at night", "drop": 0.7, "harmful": True, "effect": 0.2},
        ROW | {"to": "night", "drop": 0.6, "harmful": True, "effect": 0.5},
    ]
    conditions = words.worst_conditions(FIGURES | {"per_value": rows})
    assert [row["to"] for row in conditions] == ["night", "fog, mostly at night"]


def test_edits_that_were_always_made_together_are_one_condition():
    night, fog = ["time of day", "night"], ["weather", "foggy"]
    rows = [
        ROW | {"harmful": None, "always_with": [night]},
        ROW | {"attribute": night[0], "to": night[1], "harmful": None, "always_with": [fog]},
        ROW | {"to": "snowy", "edit_drop": 0.1},
    ]
    figures = FIGURES | {"per_value": rows}
    assert [row["to"] for row in words.worst_conditions(figures)] == ["foggy", "snowy"]
    assert words.worst_in_words(figures) == (
        "weather → foggy (30.0 points, 20.0 beyond the generator alone, "
        "always together with time of day → night), "
        "weather → snowy (30.0 points, 10.0 beyond the generator alone)"
    )
    without_placebo = FIGURES | {
        "placebo": None,
        "per_value": [ROW | {"edit_drop": None, "p_adjusted": 0.01}],
    }
    assert words.worst_in_words(without_placebo) == "weather → foggy (30.0 points)"
    *_, harm, together = words.verdict("net", figures)
    assert harm == "1 edit is harmful by itself: weather → snowy."
    assert together.endswith(
        "cannot tell which of them is: weather → foggy always together with time of day → night."
    )
    without = [row | {"p_adjusted": 0.01} for row in rows]
    conditions = words.worst_conditions(FIGURES | {"placebo": None, "per_value": without})
    assert [row["to"] for row in conditions] == ["foggy", "snowy"]


def test_the_statistics_of_edits_made_together_are_one_condition(tmp_path):
    labels = Labels("streets", "classification", ("car", "tree", "bus"), (), frozenset())
    edits = {
        "changed": (Edit("weather", "clear", "foggy"), Edit("time of day", "day", "night")),
        "painted": (Edit("colour", "red", "blue"),),
    }
    rows = []
    for i in range(24):
        source, right, wrong = f"s{i}", i % 3, (i + 1) % 3
        answer = {"label": right, "certainty": 0.9, "confidence": 0.9, "top5": [right]}
        images = [("original", source, ()), ("placebo", f"{source}-placebo", ())]
        images += [("counterfactual", f"{source}-{name}", made) for name, made in edits.items()]
        for kind, name, changes in images:
            predicted = wrong if name.endswith("changed") else right
            record = answer | {"predicted": predicted}
            row = predictions.row("net", name, source, kind, record, edits=changes, verdict=Verdict())
            rows.append(row)
    predictions.write(tmp_path / "predictions.parquet", rows, labels, [])
    figures = summarise(tmp_path / "predictions.parquet", labels, ["net"], 0)["models"]["net"]
    assert words.worst_in_words(figures) == (
        "time of day → night (100.0 points, 100.0 beyond the generator alone, "
        "always together with weather → foggy)"
    )
    assert words.verdict("net", figures)[-1].startswith("Some edits are harmful, but they were")
