import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dillema import predictions
from dillema.context import JobContext
from dillema.errors import UserError
from dillema.job.compare import compare, list_differences
from dillema.run_folder import Labels
from tests.report.chromium import BROWSER, FAINT, chromium

ROOT = Path(__file__).parents[2]
LABELS = Labels("d", "classification", ("a", "b"), (), frozenset())
FIGURES = {
    "metric": "accuracy", "sources": 20, "groups": 20, "images": 38, "level": 0.95,
    "original": {"accuracy": 0.9}, "counterfactual": {"accuracy": 0.8},
}  # fmt: skip


def results(
    drop, low=None, high=None, *, valid=38, seconds=100.0, model="<segmenter>", flip_rate=None, placebo=None
):
    figures = FIGURES | {"drop": drop, "low": low, "high": high, "flip_rate": flip_rate}
    figures["placebo"] = placebo and {"drop": placebo, "low": placebo - 0.01, "high": placebo + 0.01}
    return {
        "version": 2, "name": "test", "dataset": "d", "task": "classification", "classes": ["a", "b"],
        "colours": [],
        "ignored": [], "gates": ["segmenter"], "counts": {"sources": 24, "generated": 72, "valid": valid},
        "seconds": {"caption": seconds / 4, "generate": 3 * seconds / 4}, "models": {model: figures},
    }  # fmt: skip


def write_answers(folder, wrong, digest, model="<segmenter>", sources=30):
    """Writes the predictions of a run in which one image of each of some sources is wrong."""
    record = {"label": 0, "certainty": 0.9, "confidence": 0.9, "top5": [0, 1]}
    rows = []
    for i in range(sources):
        rows.append(
            predictions.row(model, f"s{i}", f"s{i}", "original", record | {"predicted": 0}, digest=str(i))
        )
        answer = record | {"predicted": int(i < wrong)}
        rows.append(
            predictions.row(model, f"s{i}_0", f"s{i}", "counterfactual", answer, digest=f"{i} {digest}")
        )
    predictions.write(folder / "predictions.parquet", rows, LABELS, [])


def write_images(folder, key):
    """Writes the list of generated images of a run, which has one."""
    row = {
        "file_name": "images/s0_0.png", "source": "s0", "group": "", "caption": "a", "counterfactual": "b",
        "edits": [],
        "seed": 0, "controls": [], "reasons": [], "checked": True, "label_columns": [], "record": key,
    }  # fmt: skip
    (folder / "generated").mkdir()
    (folder / "generated" / "metadata.jsonl").write_text(json.dumps(row))


def write_run(folder, content, options, config, *overrides, report=True):
    """Writes the folder of a run."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))
    if report:
        (folder / "report.html").write_text("report")
    choices = {"hydra": {"runtime": {"choices": options | {"hydra/env": "default"}}}}
    OmegaConf.save(choices, folder / ".hydra" / "hydra.yaml")
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    OmegaConf.save(list(overrides), folder / ".hydra" / "overrides.yaml")


@pytest.fixture
def folder_of_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "outputs" / "day" / "compare"
    target.mkdir(parents=True)
    llm = {"_target_": "a.B", "temperature": 0.2, "threads": 2}
    other = {"_target_": "a.C", "temperature": 0.8, "api": "x"}
    small, large = {"llm": "small", "edits": "random"}, {"llm": "large", "edits": "random"}
    mild = results(0.1, -0.05, 0.2, flip_rate=0.25)
    write_run(Path("outputs/day/mild"), mild, small, {"llm": llm, "seed": 0})
    sweep = Path("multirun/day/sweep #1")
    write_run(
        sweep / "0", results(0.6034, 0.56, 0.64), large, {"llm": other, "seed": 0}, "llm=large", "+llm.api=x"
    )
    write_run(sweep / "1", results(None, valid=0), small, {"llm": llm, "seed": 1}, "seed=1", report=False)
    return target


def start(target, *runs):
    """Compares runs and returns the rows of the page's tables, by the ids of the tables, and the page."""
    compare(JobContext(OmegaConf.create(), target), list(runs))
    text = (target / "comparison.html").read_text()
    return Page(text), re.sub(r"\s+", " ", text)


class Page(HTMLParser):
    """What a reader meets: by table the cells of each row by name, links, and addresses that are loaded."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.links, self.loaded, self._cell, self._table = {}, [], [], None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "src" in attributes or tag in ("link", "script"):
            self.loaded.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("id", "other"), [])
        if tag == "tr":
            self._table.append({})
        if tag == "td":
            self._cell = attributes.get("data-name")
        if tag == "a":
            self.links.append(attributes["href"])

    def handle_endtag(self, tag):
        self._cell = None if tag == "td" else self._cell

    def handle_data(self, text):
        if self._cell:
            row = self._table[-1]
            row[self._cell] = (row.get(self._cell, "") + text).strip()


def test_gates_by_default_are_named_and_values_are_written_as_they_are_typed(folder_of_runs):
    gates = {"segmenter": {"min_agreement": 0.5}, "image": {"min_contrast": 2}}
    write_run(Path("default"), results(0.1), {}, {"validity": gates, "name": None, "placebo": True})
    none = {"validity": {}, "name": "night", "placebo": False}
    write_run(Path("none"), results(0.2), {"validity": "none"}, none)
    page, _ = start(folder_of_runs, "default", "none")
    first, second = page.tables["runs"][1:]
    assert (first["validity"], second["validity"]) == ("[segmenter,image]", "none")
    assert (first["name"], second["name"]) == ("null", "night")
    assert (first["placebo"], second["placebo"]) == ("true", "false")


def test_runs_and_sweeps_are_compared_by_what_differs(folder_of_runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page, text = start(folder_of_runs, "outputs/day/mild", "multirun/day/sweep #1")
    _, mild, worst, empty = page.tables["results"]
    assert [row["run"] for row in page.tables["results"][1:]] == ["1", "2", "3"]  # in the order given
    assert [row["folder"] for row in page.tables["runs"][1:]] == ["day/mild", "sweep #1/0", "sweep #1/1"]
    assert (
        worst["drop, points"] == "60.3"
        and worst["95 % interval"] == "56.0 to 64.0"
        and worst["model"] == "<segmenter>"
    )
    assert worst["seconds an image"] == "2.6" and worst["valid"] == "52.8 % (38 of 72)"
    assert mild["flip rate"] == "25.0 %" and empty["drop, points"] == "-" and empty["seconds an image"] == "-"
    settings = [[row.get(name) for name in ("llm", "llm.api", "seed")] for row in page.tables["runs"][1:]]
    assert settings == [["small", "-", "0"], ["large", "x", "0"], ["small", "-", "1"]]
    assert not {"edits", "llm.temperature", "llm.threads"} & page.tables["runs"][1].keys()
    assert page.links == ["../mild/report.html", "../../../multirun/day/sweep%20%231/0/report.html"]
    assert not page.loaded and "url(" not in text and "cost an image" not in text
    assert "Run 2: Accuracy of &lt;segmenter&gt; drops by 60.3 points" in text
    shown = capsys.readouterr().out
    assert "2  sweep #1/0  llm=large" in shown and "60.3" in shown and "56.0 to 64.0" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_sweeps_of_a_day_are_found(folder_of_runs):
    page, _ = start(folder_of_runs, "outputs/day/mild", "multirun/day")
    assert [row["folder"] for row in page.tables["runs"][1:]] == ["day/mild", "sweep #1/0", "sweep #1/1"]


def test_runs_without_a_configuration_can_be_compared(folder_of_runs):
    for name in ("one", "other"):
        Path(name).mkdir()
        Path(name, "results.json").write_text(json.dumps(results(0.1, 0.0, 0.2)))
    page, text = start(folder_of_runs, "one", "other")
    assert [row["drop, points"] for row in page.tables["results"][1:]] == ["10.0", "10.0"]
    assert "has no predictions.parquet of this version" in text


def test_the_cost_of_an_image_is_shown_where_the_price_of_the_machine_is_known(folder_of_runs, capsys):
    write_run(
        Path("priced"), results(0.1), {}, {"tracking": {"price_per_hour": 3.6}}
    )  # 100 s, 38 valid images
    page, _ = start(folder_of_runs, "priced", "outputs/day/mild")
    assert [row["cost an image"] for row in page.tables["results"][1:]] == ["0.00263", "-"]
    assert "0.00263" in re.sub(r"\s|│", "", capsys.readouterr().out)


def test_runs_are_compared_with_the_first_on_the_same_images_or_sources(folder_of_runs, capsys):
    names = ("first", "same", "other", "missing", "elsewhere")
    first, same, other, missing, elsewhere = map(Path, names)
    for folder in (first, same, other, missing, elsewhere):
        folder.mkdir()
        content = results(0.1, 0.0, 0.2) | ({"dataset": "e"} if folder == elsewhere else {})
        (folder / "results.json").write_text(json.dumps(content))
    write_answers(first, 10, "x")
    write_answers(same, 25, "x")
    write_answers(other, 9, "y")
    write_answers(elsewhere, 9, "y")
    page, text = start(folder_of_runs, *names)
    on_images, on_sources = page.tables["differences"][1:]
    assert (on_images["first"], on_images["minus"]) == ("run 2", "run 1")
    assert on_images["on"] == "the same 30 images of 30 sources (rough)"
    assert on_sources["on"] == "different images (30 and 30) of the same 30 sources (rough)"
    minus = "\N{MINUS SIGN}"
    assert [on_images[name] for name in ("originals", "counterfactuals", "drop", "p")] == [
        "0.0",
        f"{minus}50.0",
        "50.0",
        "< 0.001",
    ]
    assert on_sources["drop"] == f"{minus}3.3" and float(on_sources["p"]) > 0.5
    assert (
        "run 4 has no predictions.parquet of this version" in text
        and "they are of different data (e and d)" in text
    )
    shown = re.sub(r"\s", "", capsys.readouterr().out)
    assert "Differencesinpointsfromrun1" in shown and "<0.001" in shown


def test_a_setting_without_effect_is_named(folder_of_runs, capsys):
    for name, temperature, key in (("one", 0.2, "k"), ("two", 0.8, "k"), ("three", 0.9, "other")):
        content = results(0.2, 0.1, 0.3)
        content["counts"]["generated"] = 1
        write_run(Path(name), content, {}, {"llm": {"temperature": temperature}})
        write_images(Path(name), key)
    _, text = start(folder_of_runs, "one", "two")
    assert "llm.temperature has no effect here: same images." in text
    assert "llm.temperature has no effect here" in capsys.readouterr().out
    _, text = start(folder_of_runs, "one", "two", "three")
    assert "has no effect" not in text


def test_a_threshold_that_changes_verdicts_alone_has_an_effect(folder_of_runs):
    for name, threshold, valid in (("one", 0.5, 1), ("two", 0.9, 0)):
        content = results(0.2, 0.1, 0.3)
        content["counts"] |= {"generated": 1, "valid": valid}
        write_run(Path(name), content, {}, {"validity": {"segmenter": {"min_agreement": threshold}}})
        write_images(Path(name), "k")
    _, text = start(folder_of_runs, "one", "two")
    assert "has no effect" not in text


def write_valid_images(folder, *valid):
    """Writes a list of generated images, of which some are valid."""
    write_images(folder, "k")
    file = folder / "generated" / "metadata.jsonl"
    row = json.loads(file.read_text())
    rows = [
        row | {"file_name": f"images/s{i}_0.png", "reasons": [] if i in valid else ["segmenter: low"]}
        for i in range(2)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_link_is_named_by_its_run_and_other_images_are_no_silent_difference(folder_of_runs, capsys):
    for name, source, valid in (("one", None, (0, 1)), ("judged", "outputs/latest", (0,))):
        content = results(0.2, 0.1, 0.3)
        content["counts"] |= {"generated": 2, "valid": len(valid)}
        floor = {"min_agreement": len(name)}
        write_run(Path(name), content, {}, {"run": source, "validity": {"segmenter": floor}})
        write_valid_images(Path(name), *valid)
    Path("latest").symlink_to("judged")
    page, text = start(folder_of_runs, "one", "latest")
    folder = page.tables["runs"][2]["folder"]
    assert folder.endswith("/judged") and page.links[1].endswith("/judged/report.html")
    assert page.tables["runs"][2].keys() == {"run", "folder", "validity.segmenter.min_agreement"}
    assert "The results are of different images." in text and "has no effect" not in text
    assert "flip rate" not in text
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "The results are of different images." in shown and "flips" not in shown
    assert "different images" not in start(folder_of_runs, "one", "one")[1]


def test_a_difference_of_too_few_sources_is_not_shown(folder_of_runs, capsys):
    for name, wrong in (("one", 0), ("two", 2)):
        write_run(Path(name), results(0.1, 0.0, 0.2), {}, {})
        write_answers(Path(name), wrong, "x", sources=2)
    page, text = start(folder_of_runs, "one", "two")
    assert "too few sources to be sure: 2, at least 6 are needed" in text
    assert page.tables["differences"][1].keys() == {"first", "minus", "on"}
    difference = capsys.readouterr().out.partition("Differences")[2]
    assert "too few sources" in difference and "100.0" not in difference


def test_two_settings_that_differ_make_a_heat_map(folder_of_runs):
    for i, (llm, edits) in enumerate((("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"))):
        write_run(Path(str(i)), results(0.1 * i + 0.1, 0.0, 0.5), {"llm": llm, "edits": edits}, {})
    page, text = start(folder_of_runs, "0", "1", "2", "3")
    assert "Drop of &lt;segmenter&gt; by two settings, points" in text
    assert "40.0<small>run 4</small>" in text and len(page.tables["other"]) == 3


@pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_page_fits_and_is_readable(folder_of_runs, width, scheme):
    folders = [Path("multirun/day/sweep #1") / str(i) for i in range(2)]
    write_answers(folders[0], 10, "x")
    write_answers(folders[1], 5, "x")
    start(folder_of_runs, "multirun/day/sweep #1", "outputs/day/mild")
    with chromium() as tab:
        tab.open(folder_of_runs / "comparison.html", width, scheme=scheme)
        assert tab.complaints == [] and tab.ask("document.documentElement.scrollWidth") <= width
        contrast = tab.ask(FAINT)
        assert contrast["seen"] > 50 and contrast["faint"] == []
        assert "the same 30 images" in tab.ask("document.body.innerText")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")
def test_figures_are_seen_beside_many_settings_and_on_paper(folder_of_runs):
    settings = {f"a_setting_with_a_long_name_{i}": "a_long_value" for i in range(9)}
    long = results(0.1, -0.05, 0.2, placebo=0.05)
    write_run(
        Path("outputs/day/long"),
        long,
        {"llm": "small"},
        {"prompt": settings, "tracking": {"price_per_hour": 1}},
    )
    start(folder_of_runs, "outputs/day/long", "outputs/day/mild")
    with chromium() as tab:
        tab.open(folder_of_runs / "comparison.html", 1280)
        cells = "[...document.querySelectorAll('#results tbody td')]"
        assert tab.ask(f"{cells}.every(cell => cell.getBoundingClientRect().right <= innerWidth)")
        assert "\N{MINUS SIGN}5.0 to 20.0" in tab.ask("document.body.innerText")
        tab.open(folder_of_runs / "comparison.html", 1000, media="print", scheme="dark")
        assert tab.ask(FAINT)["faint"] == [] and tab.ask("document.documentElement.scrollWidth") <= 1000


def test_a_folder_without_results_is_named(folder_of_runs):
    with pytest.raises(UserError, match=r"job\.runs: outputs/nowhere holds no run"):
        start(folder_of_runs, "outputs/day/mild", "outputs/nowhere")
    with pytest.raises(UserError, match=r"job\.runs=\["):
        start(folder_of_runs)


def test_values_of_an_option_that_differs_are_left_out_unless_they_were_given():
    small = (
        {"llm": "small"},
        {"llm.temperature": 0.2, "llm.threads": 1, "seed": 0},
        {"llm", "llm.temperature"},
    )
    large = {"llm": "large"}, {"llm.temperature": 0.8, "llm.threads": 4, "seed": 0}, {"llm"}
    expected = [{"llm": "small", "llm.temperature": "0.2"}, {"llm": "large", "llm.temperature": "0.8"}]
    assert list_differences([small, large]) == expected
    assert list_differences([small, small]) == [{}, {}]


def test_a_sweep_ends_with_a_comparison_though_one_run_failed(tmp_path):
    job = """
import json
from pathlib import Path

def job(context):
    content = json.loads(Path("content.json").read_text())
    content["models"]["<segmenter>"]["drop"] = 0.1 / context.cfg.seed
    Path(context.folder, "results.json").write_text(json.dumps(content))
"""
    (tmp_path / "swept.py").write_text(job)
    (tmp_path / "content.json").write_text(json.dumps(results(0.1)))
    command = [sys.executable, "-m", "dillema", "-m", "job._target_=swept.job", "seed=0,2,1"]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "COLUMNS": "80"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr, done.stderr
    (page,) = tmp_path.glob("multirun/*/*/comparison.html")
    tables = Page(page.read_text()).tables
    assert [(row["run"], row["drop, points"]) for row in tables["results"][1:]] == [
        ("1", "5.0"),
        ("2", "10.0"),
    ]
    assert [row["seed"] for row in tables["runs"][1:]] == ["2", "1"]
    assert "comparison.html" in done.stdout + done.stderr
