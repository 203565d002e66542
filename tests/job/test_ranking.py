"""Generators are ranked by what they cost alone, and by how many of their images show the edits."""

import json
import re
from pathlib import Path

import pytest

from tests.job.test_compare import folder_of_runs, results, start, write_run
from tests.report.chromium import BROWSER, chromium

__all__ = ["folder_of_runs"]


def write_painted(name, placebo, scores, options=None, **config):
    """Writes a run whose images have these scores of gates."""
    gates = {"reader": {"min_edited": 0.5}, "questions": {"min_edited": 0.6, "min_original": 0.5}}
    content = results(0.2, 0.1, 0.3, placebo=placebo)
    content["counts"]["generated"] = len(scores)
    write_run(Path(name), content, options or {"generator": name}, {"validity": gates, **config})
    (Path(name) / "generated").mkdir()
    rows = [
        {
            "file_name": f"images/s{i}_0.png", "source": f"s{i}", "group": "", "caption": "a",
            "counterfactual": "b", "edits": [], "seed": 0, "controls": [], "reasons": [], "checked": True,
            "label_columns": [], "record": f"{name}{i}", "scores": image,
        }
        for i, image in enumerate(scores)
    ]  # fmt: skip
    (Path(name) / "generated" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


SHOWN, MISSED = {"reader.edited": 0.9}, {"reader.edited": 0.2, "segmenter.agreement": 0.9}


def test_the_smallest_gap_comes_first_beside_the_rank_by_edits(folder_of_runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    write_painted("bold", 0.14, [SHOWN, SHOWN, SHOWN, MISSED])
    write_painted("timid", 0.05, [SHOWN, MISSED, MISSED, {"segmenter.agreement": 0.9}])
    write_painted("unmeasured", None, [{}])
    page, _ = start(folder_of_runs, "bold", "timid", "unmeasured")
    ranked = page.tables["generators"][1:]
    assert [row["generator and conditioning"] for row in ranked] == [
        "generator=timid",
        "generator=bold",
        "generator=unmeasured",
    ]
    assert [row["placebo gap, points"] for row in ranked] == [
        "5.04.0 to 6.0",
        "14.013.0 to 15.0",
        "no placebos",
    ]
    assert [row["images that show their edits"] for row in ranked] == [
        "33.3 % (1 of 3)",
        "75.0 % (3 of 4)",
        "no gate looked",
    ]
    assert [(row["rank by gap"], row["rank by edits"]) for row in ranked] == [
        ("1", "2"),
        ("2", "1"),
        ("-", "-"),
    ]
    shown = capsys.readouterr().out
    assert "the smallest placebo gap first" in shown and max(map(len, shown.splitlines())) <= 80
    assert re.search(r"2 +generator=timid +5\.0 +1 +33\.3 % +2", shown)


def test_each_model_under_test_ranks_the_generators(folder_of_runs, capsys):
    for name, gaps in (("bold", (0.14, 0.04)), ("timid", (0.05, 0.02))):
        write_painted(name, 0.1, [SHOWN, SHOWN if name == "bold" else MISSED])
        file = Path(name) / "results.json"
        content = json.loads(file.read_text())
        figures = content["models"].pop("<segmenter>")
        for model, gap in zip(("fragile", "robust"), gaps, strict=True):
            content["models"][model] = figures | {"placebo": figures["placebo"] | {"drop": gap}}
        file.write_text(json.dumps(content))
    page, _ = start(folder_of_runs, "bold", "timid")
    columns = ("model", "generator and conditioning", "rank by gap", "rank by edits")
    assert [tuple(row[name] for name in columns) for row in page.tables["generators"][1:]] == [
        ("fragile", "generator=timid", "1", "2"),
        ("fragile", "generator=bold", "2", "1"),
        ("robust", "generator=timid", "1", "2"),
        ("robust", "generator=bold", "2", "1"),
    ]
    assert "for each model under test" in " ".join(capsys.readouterr().out.split())


def test_every_gate_must_see_the_edit_unless_it_cannot_tell(folder_of_runs):
    blind = {"reader.edited": 0.9, "questions.edited": 0.1, "questions.original": 0.2}
    doubted = {"reader.edited": 0.9, "questions.edited": 0.55, "questions.original": 0.9}
    blind_alone = {"questions.edited": 0.9, "questions.original": 0.2}
    half_blind = blind | {"questions.edited_2": 0.3, "questions.original_2": 0.9}
    write_painted("one", 0.1, [blind, doubted, blind_alone, half_blind])
    write_painted("two", 0.1, [SHOWN])
    page, _ = start(folder_of_runs, "one", "two")
    cells = {row["run"]: row["images that show their edits"] for row in page.tables["generators"][1:]}
    assert cells == {"1": "33.3 % (1 of 3)", "2": "100.0 % (1 of 1)"}


def test_conditionings_and_settings_of_a_generator_are_ranked_other_settings_are_not(folder_of_runs):
    for name, weight in (("one", 0.5), ("two", 1.0)):
        same = {"generator": "same"}
        write_painted(name, weight / 10, [SHOWN], same, conditioning={"weight": weight}, llm={"t": weight})
    page, _ = start(folder_of_runs, "one", "two")
    options = [row["generator and conditioning"] for row in page.tables["generators"][1:]]
    assert options == ["conditioning.weight=0.5", "conditioning.weight=1.0"]
    for name in ("three", "four"):
        write_painted(name, 0.1, [SHOWN], {"generator": "same"}, llm={"t": name})
    page, _ = start(folder_of_runs, "three", "four")
    assert "generators" not in page.tables


@pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")
def test_the_ranking_is_seen_whole(folder_of_runs):
    write_painted("a generator with a long name and many words", 0.14, [SHOWN])
    write_painted("timid", 0.05, [SHOWN])
    start(folder_of_runs, "a generator with a long name and many words", "timid")
    with chromium() as tab:
        for width in (1280, 360):
            tab.open(folder_of_runs / "comparison.html", width)
            assert tab.complaints == [] and tab.ask("document.documentElement.scrollWidth") <= width
        assert "rank by edits" in tab.ask("document.body.innerText")
