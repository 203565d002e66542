import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from dillema.errors import UserError
from dillema.evaluation import predictions
from dillema.job.compare import compare, differences
from tests.report.chromium import BROWSER, chromium
from tests.report.test_page import FAINT

ROOT = Path(__file__).parents[2]
FIGURES = {"metric": "mean_iou", "sources": 20, "images": 38, "level": 0.95}


def results(drop, low=None, high=None, *, valid=38, seconds=100.0, model="<segmenter>", flip_rate=None):
    figures = FIGURES | {"drop": drop, "low": low, "high": high, "flip_rate": flip_rate}
    counts = {"sources": 24, "generated": 72, "valid": valid}
    seconds_of = {"caption": seconds / 4, "generated": 3 * seconds / 4}
    return {"dataset": "d", "task": "classification", "classes": ["a", "b"], "counts": counts, "seconds": seconds_of, "models": {model: figures}}


def answers(folder, wrong, digest, model="<segmenter>", sources=30):
    """Writes the predictions of a run in which one image of each of some sources is wrong."""
    said = {"label": 0, "certainty": 0.9, "confidence": 0.9, "top5": [0, 1]}
    rows = [predictions.row(model, f"s{i}", f"s{i}", "original", said | {"predicted": 0}, digest=str(i)) for i in range(sources)]
    rows += [predictions.row(model, f"s{i}_0", f"s{i}", "counterfactual", said | {"predicted": int(i < wrong)}, digest=f"{i} {digest}") for i in range(sources)]
    predictions.write(folder / "predictions.parquet", rows)


def run(folder, found, options, config, *overrides, report=True):
    """Makes the folder of a run."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(found))
    if report:
        (folder / "report.html").write_text("report")
    OmegaConf.save({"hydra": {"runtime": {"choices": options | {"hydra/env": "default"}}}}, folder / ".hydra" / "hydra.yaml")
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    OmegaConf.save(list(overrides), folder / ".hydra" / "overrides.yaml")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "outputs" / "day" / "compare"
    target.mkdir(parents=True)
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(target)}}})
    llm = {"_target_": "a.B", "temperature": 0.2, "threads": 2}
    other = {"_target_": "a.C", "temperature": 0.8, "api": "x"}
    run(Path("outputs/day/mild"), results(0.1, -0.05, 0.2, flip_rate=0.25), {"llm": "small", "edits": "random"}, {"llm": llm, "seed": 0})
    run(Path("multirun/day/sweep #1/0"), results(0.6034, 0.56, 0.64), {"llm": "large", "edits": "random"}, {"llm": other, "seed": 0}, "llm=large", "+llm.api=x")
    empty = results(None, valid=0)
    run(Path("multirun/day/sweep #1/1"), empty, {"llm": "small", "edits": "random"}, {"llm": llm, "seed": 1}, "seed=1", report=False)
    yield target
    HydraConfig.instance().cfg = None


class Page(HTMLParser):
    """What a reader meets: the cells of each row by name, links, and addresses that are loaded."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links, self.loaded, self._cell = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.loaded += [attributes[key] for key in ("src",) if key in attributes] + ([tag] if tag in ("link", "script") else [])
        if tag == "tr":
            self.rows.append({})
        if tag == "td":
            self._cell = attributes["data-name"]
        if tag == "a":
            self.links.append(attributes["href"])

    def handle_endtag(self, tag):
        self._cell = None if tag == "td" else self._cell

    def handle_data(self, text):
        if self._cell:
            self.rows[-1][self._cell] = (self.rows[-1].get(self._cell, "") + text).strip()


def test_runs_and_sweeps_stand_side_by_side_with_what_differs(here, capsys):
    compare(OmegaConf.create(), ["outputs/day/mild", "multirun/day/sweep #1"])
    text = (here / "comparison.html").read_text()
    page = Page(text)
    _, worst, mild, empty = page.rows
    assert [row["run"] for row in page.rows[1:]] == ["sweep #1/0", "day/mild", "sweep #1/1"]
    assert worst["drop, points"] == "60.3" and worst["95 % interval"] == "56.0 to 64.0" and worst["model"] == "<segmenter>"
    assert worst["seconds"] == "100.0" and worst["seconds per valid image"] == "2.6" and worst["valid"] == "52.8 % (38 of 72)"
    assert mild["flip rate"] == "25.0 %" and empty["drop, points"] == "-" and empty["seconds per valid image"] == "-"
    settings = [[row.get(name) for name in ("llm", "llm.api", "seed")] for row in (worst, mild, empty)]
    assert settings == [["large", "x", "0"], ["small", "-", "0"], ["small", "-", "1"]]
    assert not {"edits", "llm.temperature", "llm.threads"} & worst.keys()
    assert page.links == ["../../../multirun/day/sweep%20%231/0/report.html", "../mild/report.html"]
    assert not page.loaded and "url(" not in text and "cost" not in text
    assert "loses 60.3 points of mean IoU" in text.replace("\n", " ")
    said = capsys.readouterr().out
    assert "60.3" in re.sub(r"\s", "", said)


def test_runs_that_hydra_did_not_start_can_be_compared(here):
    for name in ("one", "other"):
        Path(name).mkdir()
        Path(name, "results.json").write_text(json.dumps(results(0.1, 0.0, 0.2)))
    compare(OmegaConf.create(), ["one", "other"])
    text = (here / "comparison.html").read_text()
    assert [row["drop, points"] for row in Page(text).rows[1:]] == ["10.0", "10.0"]
    assert "has no predictions.parquet of this version" in text


def test_the_cost_of_a_valid_image_is_shown_where_the_price_of_the_machine_is_known(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run(Path("priced"), results(0.1), {}, {"tracking": {"price_per_hour": 3.6}})  # 100 s, 38 valid images
    compare(OmegaConf.create(), ["priced", "outputs/day/mild"])
    text = (here / "comparison.html").read_text()
    assert [row["cost per valid image"] for row in Page(text).rows[1:]] == ["0.00263", "-"]
    assert "nor in the cost" in text and "0.00263" in re.sub(r"\s|│", "", capsys.readouterr().out)


def test_runs_are_held_against_the_first_on_the_same_images_or_sources(here, capsys):
    first, same, other, missing, elsewhere = (Path(name) for name in ("first", "same", "other", "missing", "elsewhere"))
    for folder in (first, same, other, missing, elsewhere):
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(results(0.1, 0.0, 0.2) | ({"dataset": "e"} if folder == elsewhere else {})))
    answers(first, 10, "x")
    answers(same, 25, "x")
    answers(other, 9, "y")
    answers(elsewhere, 9, "y")
    compare(OmegaConf.create(), ["first", "same", "other", "missing", "elsewhere"])
    text = (here / "comparison.html").read_text()
    told, alike = Page(text).rows[-2:]
    assert told["run"].endswith("/same: <segmenter>") and told["less"] == "<segmenter> of the first run"
    assert told["on"] == "the same 30 images of 30 sources (rough)" and alike["on"] == "other images (30 and 30) of the same 30 sources (rough)"
    assert (told["originals"], told["counterfactuals"], told["drop"], told["p"]) == ("0.0", "\N{MINUS SIGN}50.0", "50.0", "< 0.001")
    assert alike["drop"] == "\N{MINUS SIGN}3.3" and float(alike["p"]) > 0.5
    assert "/missing has no predictions.parquet of this version" in text and "they are of different data (e and d)" in text
    said = re.sub(r"\s", "", capsys.readouterr().out)
    assert "Differencesinpointsfromthefirstrun" in said and "<0.001" in said


@pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_page_fits_and_is_readable(here, width, scheme):
    folders = [Path("multirun/day/sweep #1") / str(i) for i in range(2)]
    answers(folders[0], 10, "x")
    answers(folders[1], 5, "x")
    compare(OmegaConf.create(), ["multirun/day/sweep #1", "outputs/day/mild"])
    with chromium() as tab:
        tab.open(here / "comparison.html", width, scheme=scheme)
        assert tab.complaints == [] and tab.ask("document.documentElement.scrollWidth") <= width
        contrast = tab.ask(FAINT)
        assert contrast["seen"] > 50 and contrast["faint"] == []
        assert "the same 30 images" in tab.ask("document.body.innerText")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")
def test_figures_are_seen_beside_many_settings_and_on_paper(here):
    settings = {f"a_setting_with_a_long_name_{i}": "a_long_value" for i in range(9)}
    run(Path("outputs/day/long"), results(0.1, -0.05, 0.2), {"llm": "small"}, {"prompt": settings})
    compare(OmegaConf.create(), ["outputs/day/long", "outputs/day/mild"])
    with chromium() as tab:
        tab.open(here / "comparison.html", 1280)
        seen = "[...document.querySelectorAll('tbody td.number')].filter(cell => cell.getBoundingClientRect().right <= innerWidth).length"
        assert tab.ask(seen) == 2 * 6 and "\N{MINUS SIGN}5.0 to 20.0" in tab.ask("document.body.innerText")
        tab.open(here / "comparison.html", 1000, media="print", scheme="dark")
        assert tab.ask(FAINT)["faint"] == [] and tab.ask("document.documentElement.scrollWidth") <= 1000


def test_a_folder_without_results_is_named(here):
    with pytest.raises(UserError, match=r"job\.runs: outputs/nowhere holds no run"):
        compare(OmegaConf.create(), ["outputs/day/mild", "outputs/nowhere"])
    with pytest.raises(UserError, match=r"job\.runs=\["):
        compare(OmegaConf.create(), [])


def test_values_of_an_option_that_differs_are_left_out_unless_they_were_given():
    small = {"llm": "small"}, {"llm.temperature": 0.2, "llm.threads": 1, "seed": 0}, {"llm", "llm.temperature"}
    large = {"llm": "large"}, {"llm.temperature": 0.8, "llm.threads": 4, "seed": 0}, {"llm"}
    assert differences([small, large]) == [{"llm": "small", "llm.temperature": "0.2"}, {"llm": "large", "llm.temperature": "0.8"}]
    assert differences([small, small]) == [{}, {}]


def test_a_sweep_ends_with_its_runs_side_by_side_though_one_failed(tmp_path):
    job = """
import json
from pathlib import Path
from hydra.core.hydra_config import HydraConfig

def job(cfg):
    found = json.loads(Path("found.json").read_text())
    found["models"]["<segmenter>"]["drop"] = 0.1 / cfg.seed
    Path(HydraConfig.get().runtime.output_dir, "results.json").write_text(json.dumps(found))
"""
    (tmp_path / "swept.py").write_text(job)
    (tmp_path / "found.json").write_text(json.dumps(results(0.1)))
    command = [sys.executable, "-m", "dillema", "-m", "job._target_=swept.job", "seed=0,2,1"]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    (page,) = tmp_path.glob("multirun/*/*/comparison.html")
    assert [(row["seed"], row["drop, points"]) for row in Page(page.read_text()).rows[1:]] == [("1", "10.0"), ("2", "5.0")]
    table = done.stdout.partition("s per valid image")[2]
    assert table.index("seed=1") < table.index("seed=2")
    assert "comparison.html" in done.stdout + done.stderr
