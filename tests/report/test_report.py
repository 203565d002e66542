import json
import re
from pathlib import Path

import pytest
from PIL import Image

from dillema.pipeline import Run
from dillema.report import gallery, origin, plots, verdict, words, write
from tests.backends import Model, Noise, pipeline

FIGURES = {"metric": "mean_iou", "sources": 124, "images": 261, "drop": 0.123, "low": 0.081, "high": 0.16, "level": 0.95, "rough": False}


def told_to_the_script(folder):
    page = (folder / "report.html").read_text()
    return json.loads(page.partition('id="gallery">')[2].partition("</script>")[0])


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_the_pairs_come_by_harm_with_what_was_said_and_changed(tmp_path, task):
    whole = pipeline(tmp_path / "store", dataset=Noise(task=task), models=(Model(task=task),))
    out = whole.run(tmp_path)
    write(out, whole.dataset, tmp_path)
    rows = told_to_the_script(tmp_path)["pairs"]
    harms = [sum(answer["harm"] for answer in row["said"]) for row in rows]
    assert len(rows) == 12 and harms == sorted(harms, reverse=True)
    assert {row["id"]: row["valid"] for row in rows} == {pair.id: pair.verdict.valid for pair in out.pairs}
    assert all([text for text, edited in row["after"] if edited] == [to for _, _, to in row["edits"]] for row in rows)
    assert all(re.search(r", \d+\.\d % sure( of \w+|$)", row["said"][0]["original"]) for row in rows)
    assert all(set(row["classes"]) <= {"sky", "road", "car"} and row["classes"] for row in rows)


def test_small_images_lie_in_the_page_and_the_others_beside_it(tmp_path, monkeypatch):
    whole = pipeline(tmp_path / "store")
    out = whole.run(tmp_path)
    write(out, whole.dataset, tmp_path)
    addresses = told_to_the_script(tmp_path)["images"]
    assert len(addresses) == 6 * (1 + 1 + 2) and all(address.startswith("data:image/jpeg") for address in addresses)
    assert not (tmp_path / "report").exists()
    monkeypatch.setattr(gallery, "EMBEDDED", 2000)
    write(out, whole.dataset, tmp_path)
    addresses = told_to_the_script(tmp_path)["images"]
    beside = [address for address in addresses if not address.startswith("data:")]
    assert addresses[0].startswith("data:") and beside
    assert {Image.open(tmp_path / address).size for address in beside} == {(32, 20)}


def test_what_became_of_an_answer():
    right, wrong = (gallery.Answer(confidence, label=0, predicted=predicted) for predicted, confidence in ((0, 0.9), (1, 0.2)))
    assert [gallery.outcome(a, b) for a in (right, wrong) for b in (right, wrong)] == ["kept", "flipped", "corrected", "wrong on both"]
    good, fair, bad = (gallery.Answer(share, iou=share) for share in (0.9, 0.87, 0.4))
    assert [gallery.outcome(good, other) for other in (fair, bad)] + [gallery.outcome(bad, good)] == ["kept", "worse", "better"]
    assert gallery.said(good, ("sky", "road")) == "IoU 90.0 %, 90.0 % sure of the truth"
    assert gallery.said(wrong, ("sky", "road")) == "road (wrong), 20.0 % sure of sky" and gallery.said(right, ("sky", "road")) == "sky, 90.0 % sure"


def test_marks_keep_to_words_and_lose_nothing():
    text = "a red car (red) hired by a red-haired man"
    pieces = gallery.marked(text, ["red", "red car"])
    assert "".join(piece for piece, _ in pieces) == text
    assert [piece for piece, edited in pieces if edited] == ["red car", "red", "red"]
    assert gallery.marked(text, []) == [(text, False)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "net loses 12.3 points of mean IoU on 261 valid counterfactuals of 124 sources (95 % interval: 8.1 to 16.0 points lost)."),
        ({"drop": -0.02, "low": -0.03, "high": -0.01}, "gains 2.0 points"),
        ({"low": -0.01}, "no change of mean IoU that can be told from chance"),
        ({"rough": True}, "(95 % interval, rough with so few sources: 8.1 to 16.0 points lost)."),
        ({"low": None, "high": None}, "too few sources for an interval"),
        ({"drop": None}, "nothing can be said about net"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(changes, expected):
    assert expected in verdict("net", FIGURES | changes)


def test_the_worst_conditions_are_those_that_can_be_told_from_chance():
    rows = [
        {"to": "one source", "drop": 0.9, "low": None, "high": None, "p_adjusted": None},
        {"to": "few sources", "drop": 0.8, "low": 0.7, "high": 0.9, "p_adjusted": 0.5},
        {"to": "fog", "drop": 0.4, "low": 0.3, "high": 0.5, "p_adjusted": 0.01},
        {"to": "rain", "drop": 0.1, "low": 0.05, "high": 0.2, "p_adjusted": 0.04},
        {"to": "dusk", "drop": -0.1, "low": -0.2, "high": -0.05, "p_adjusted": 0.01},
    ]
    assert [row["to"] for row in words.worst(FIGURES | {"per_attribute": rows})] == ["fog", "rain", "few sources"]
    uncorrected = [{name: value for name, value in row.items() if name != "p_adjusted"} for row in rows]
    assert [row["to"] for row in words.worst(FIGURES | {"per_attribute": uncorrected})] == ["few sources", "fog", "rain"]


def test_the_example_of_a_condition_is_a_valid_pair_that_holds_little_else(tmp_path):
    whole = pipeline(tmp_path / "store", models=(Model(),))
    out = whole.run(tmp_path)
    chosen = gallery.chosen(out, whole.dataset)
    foggy = [p for p in out.pairs if any(e.replacement == "foggy" for e in p.counterfactual.edits)]
    row = {"attribute": "weather", "from": "clear", "to": "foggy"}
    shown = gallery.example(chosen, "brightest", row)
    fewest = min(len(p.counterfactual.edits) for p in foggy)
    assert shown["text"] in {p.counterfactual.text for p in foggy if len(p.counterfactual.edits) == fewest}
    assert gallery.example(chosen, "brightest", row | {"to": "snowy"}) is None


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.05, 0.87, [0, 25, 50, 75, 100]),
        (-0.03, 0.12, [-5, 0, 5, 10, 15]),
        (0.001, 0.012, [0, 0.5, 1, 1.5]),
        (0, 0, [0, 0.1]),
        (-0.4, -0.1, [-40, -30, -20, -10, 0]),
    ],
)
def test_an_axis_has_zero_and_few_round_ticks(low, high, ticks):
    scale = plots.scale([{"low": low, "high": high}, {"low": None, "high": None}], "low", "high")
    assert [100 * tick for tick in scale.ticks] == pytest.approx(ticks)
    assert scale.at(scale.ticks[0]) == 0 and scale.at(scale.ticks[-1]) == 1


def test_a_heat_map_is_higher_than_wide():
    rows = [{"attributes": ["time", "weather"], "to": ["night", w], "drop": d} for w, d in (("fog", 0.4), ("rain", -0.1), ("snow", None))]
    [table] = plots.heat(rows)
    assert (table["down"], table["rows"], table["across"], table["columns"]) == ("weather", ["fog", "rain"], "time", ["night"])
    assert [round(table["cells"][value, "night"]["heat"]) for value in table["rows"]] == [100, 25]


def test_the_page_says_how_the_run_was_made(tmp_path):
    (tmp_path / ".hydra").mkdir()
    weights = tmp_path / "weights"
    weights.write_text("learned")
    (tmp_path / ".hydra/overrides.yaml").write_text("- dataset.limit=3\n- prompt.text='a street'\n- llm.seed=${seed}\n")
    backend = "dillema.model.transformers.TransformersSegmentation"
    (tmp_path / ".hydra/config.yaml").write_text(
        f"seed: 3\nmodel:\n  _target_: {backend}\n  model: {weights}\n  name: net\nllm:\n- _target_: {backend}\n  model: a/b\n  name: net\n"
    )
    made = origin.of(tmp_path)
    assert made["command"] == "python -m dillema dataset.limit=3 'prompt.text='\"'\"'a street'\"'\"'' 'llm.seed=${seed}'"
    assert "seed: 3" in made["config"]
    assert [(name, value, len(part)) for name, value, part in made["weights"]] == [("model.model", str(weights), 12), ("llm.0.model", "a/b", 0)]
    assert {"python", "torch", "dillema"} <= set(made["versions"])


def test_a_page_of_a_run_without_images(tmp_path):
    results = {"dataset": "noise", "task": "segmentation", "seed": 0, "counts": {"generated": 0, "valid": 0}, "seconds": {}, "models": {}}
    figures = {"metric": "mean_iou", "sources": 0, "images": 0}
    write(Run(results | {"models": {"net": figures | {"all": figures}}}, [], []), Noise(), tmp_path)
    assert "No counterfactual is valid, so nothing can be said about net." in Path(tmp_path / "report.html").read_text()
