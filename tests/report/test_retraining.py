import copy
import json
import re

import pytest

from dillema import report
from dillema.report import thumbnails
from dillema.report.retraining import verdict
from dillema.run_folder import RunFolder
from tests import tiny
from tests.report.chromium import BROWSER, FAINT, chromium

ARMS = ("untouched", "originals", "augmentation", "counterfactuals")
CONDITIONS = [f"{weather} {time}" for weather in ("clear", "foggy", "snowy") for time in ("daytime", "night")]


def figure(mean, half=0.01):
    return {
        "mean": mean,
        "low": None if half is None else mean - half,
        "high": None if half is None else mean + half,
    }


def part(level, half=0.01):
    kinds = {
        "original": figure(0.8, half),
        "counterfactual": figure(level + 0.05, half),
        "truth": figure(level, half),
    }
    return kinds | {
        "per_condition": {name: figure(level + i / 50, half) for i, name in enumerate(CONDITIONS)}
    }


@pytest.fixture
def figures():
    arms = {arm: part(0.4 + 0.1 * i, None if arm == "untouched" else 0.01) for i, arm in enumerate(ARMS)}
    for i, arm in enumerate(ARMS):
        arms[arm]["over"] = {
            other: part(0.1 * (i - j)) | {"original": figure(-0.002)} for j, other in enumerate(ARMS[:i])
        }
        if i:
            arms[arm] |= {
                "steps": [9] * 3,
                "loss": [[2.5, 0.25]] * 3,
                "seconds": [1.5] * 3,
                "drawn": [{"originals": 40, arm: 32}] * 3,
                "weights": [f"weights/net/{arm}-{s}" for s in range(3)],
            }
    return {
        "metric": "mean_iou",
        "level": 0.95,
        "seeds": [0, 1, 2],
        "rough": True,
        "sources": {"train": 96, "test": 24},
        "counterfactuals": 250,
        "images": {"original": 24, "counterfactual": 70, "truth": 336},
        "home": ["clear daytime"],
        "training": {"steps": 9, "batch_size": 8, "learning_rate": 1e-3, "share": 0.5},
        "arms": arms,
        "unseen": [],
        "over_sources": {
            other: {
                kind: {"low": low, "high": 0.24, "rough": True, "groups": 24}
                for kind in ("original", "counterfactual", "truth")
            }
            for other, low in (("originals", 0.17), ("augmentation", -0.01))
        },
    }


@pytest.fixture
def gained(figures):
    return figures["arms"]["counterfactuals"]["over"]["originals"]


def test_the_verdict_says_what_is_gained_in_the_truth_and_what_it_costs(figures):
    first, augmentation, originals, sources = verdict("net", figures)
    assert first == (
        "With counterfactuals, mean IoU of net is 20.0 points higher than with originals alone, "
        "on true images (renders) of 24 untouched sources in 5 conditions other than their own "
        "(95 % interval over 3 seeds, rough with so few: 19.0 to 21.0)."
    )
    assert augmentation == (
        "Compared with classical augmentation, it is 10.0 points higher "
        "(95 % interval over 3 seeds, rough with so few: 9.0 to 11.0)."
    )
    assert originals.startswith(
        "On the originals themselves, it is 0.2 points lower than with originals alone"
    )
    assert originals.endswith("\N{MINUS SIGN}0.8 to 1.2, which may be chance).")
    assert sources.endswith(
        "the difference from originals alone would be 17.0 to 24.0, and that from augmentation "
        "\N{MINUS SIGN}1.0 to 24.0, which may be chance (bootstrap over 24 sources, rough with so few)."
    )
    figures["over_sources"]["originals"]["truth"]["groups"] = 7
    assert verdict("net", figures)[3].endswith("(bootstrap over 7 groups of sources, rough with so few).")


def test_what_may_be_chance_is_said_to_be(figures, gained):
    gained["truth"] = figure(0.003, 0.02)
    sentence = verdict("net", figures)[0]
    assert "mean IoU of net is 0.3 points higher" in sentence and "which may be chance" in sentence
    gained["truth"] = figure(-0.05)
    assert "mean IoU of net is 5.0 points lower" in verdict("net", figures)[0]


def test_few_untouched_sources_get_one_message_and_no_verdict(figures):
    figures["sources"]["test"] = 2
    (only,) = verdict("net", figures)
    assert only.startswith("No verdict about net: too few sources to be sure: 2, at least 6 are needed. ")


def test_a_reference_is_judged_by_its_own_images(figures, gained):
    figures["sources"]["test"] = 2
    figures["images"]["reference"] = 12
    figures["over_sources"] = {
        other: {"reference": {"low": 0.17, "high": 0.24, "rough": True, "groups": 12}}
        for other in ("originals", "augmentation")
    }
    for other in ("originals", "augmentation"):
        figures["arms"]["counterfactuals"]["over"][other]["reference"] = figure(0.2)
    first, *_, sources = verdict("net", figures)
    assert "on 12 real images of the reference" in first
    assert sources.startswith("With other real images instead of other seeds")
    assert sources.endswith("(bootstrap over 12 real images, rough with so few).")
    figures["over_sources"]["originals"]["reference"]["groups"] = 3
    (only,) = verdict("net", figures)
    assert only.startswith("No verdict about net: too few groups of real images to be sure: 3, at least 6")


def test_a_single_seed_has_no_interval(figures, gained):
    figures["seeds"] = [0]
    gained["truth"], gained["original"] = figure(0.2, None), figure(-0.002, None)
    figures["arms"]["counterfactuals"]["over"]["augmentation"]["truth"] = figure(0.1, None)
    for sentence in verdict("net", figures)[:3]:
        assert sentence.endswith("(a single seed: no interval).")


def test_without_the_truth_generated_images_are_called_that(figures, gained):
    figures["images"]["truth"] = 0
    first, *_, last = verdict("net", figures)
    assert "renders" not in first and "on 70 valid counterfactuals of 24 untouched sources" in first
    assert "generated" in last
    gained["counterfactual"] = {"mean": None, "low": None, "high": None}
    (only,) = verdict("net", figures)
    assert "cannot be judged" in only


def test_classes_that_nothing_was_trained_on_are_named(figures):
    figures["unseen"] = list("abcdef")
    expected = "The sources to train on lack 6 classes of those to test on (a, b, c, d, e, f)"
    assert verdict("net", figures)[-1].startswith(expected)


def write_run(folder, models, **changes):
    """Writes the folder of a retraining and its page."""
    files = {kind: f"report/examples/0-{kind}.jpg" for kind in ("original", "augmented", "counterfactual")}
    for index, file in enumerate(files.values()):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(thumbnails.shrink(tiny.image(index, (256, 160))))
    results = {
        "version": 2, "name": "test", "dataset": "d", "task": "segmentation", "seed": 0,
        "seconds": {"training": 3.0},
        "counts": {"sources": 120, "valid": 320},
        "examples": [{"text": "a <b>foggy</b> night", "images": files}],
        "models": {name: {"retraining": figures} for name, figures in models.items()},
    } | changes  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    report.write(RunFolder.open(folder))


@pytest.mark.parametrize(("gates", "checked"), [(["segmenter"], True), ([], False)])
def test_no_counterfactual_is_called_valid_that_no_gate_has_checked(figures, tmp_path, gates, checked):
    figures["images"]["truth"] = 0
    write_run(tmp_path, {"net": figures}, gates=gates)
    page = (tmp_path / "report.html").read_text().replace("\u00ad", "")
    page = " ".join(re.sub(r"<style>.*</style>|<[^>]*>", " ", page, flags=re.S).split())
    assert ("No gate checked the counterfactuals" in page) is not checked
    valid = "valid " if checked else ""
    for text in (
        f"on 70 {valid}counterfactuals of 24 untouched sources",
        f"250 {valid}counterfactuals of them",
        f"trained on originals 24 images {valid}counterfactuals 70 images",
        f"the same augmented, and a {valid}counterfactual of it",
    ):
        assert text in page
    assert (re.search(r"\bvalid\b", page) is not None) is checked


@pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")
def test_the_page_in_a_browser(figures, tmp_path):
    harmful = "net<img src=x>"
    other = copy.deepcopy(figures) | {"images": {"original": 24, "counterfactual": 70, "truth": 0}}
    for each in other["arms"].values():
        each["per_condition"] = {}
        for over in each["over"].values():
            over["per_condition"] = {}
    write_run(tmp_path, {harmful: figures, "other": other})
    with chromium() as tab:
        for width, scheme in ((1280, "light"), (360, "light"), (360, "dark")):
            tab.open(tmp_path / "report.html", width, scheme=scheme)
            assert tab.ask("document.documentElement.scrollWidth") <= width
            assert tab.ask(
                "[...document.querySelectorAll('.figures')].every(table => table.offsetWidth < innerWidth)"
            )  # nothing to scroll for
            result = tab.ask(FAINT)
            assert result["seen"] > 100 and not result["faint"]
        assert not tab.complaints and [
            address for address in tab.requests if not address.startswith("data:")
        ] == [(tmp_path / "report.html").as_uri()]
        assert tab.ask("document.querySelector('.verdict').innerText").startswith(
            "With counterfactuals, mean IoU of net<img src=x> is 20.0 points higher"
        )
        assert tab.ask("document.querySelectorAll('svg.marks').length") == 6
        assert tab.ask("document.querySelectorAll('svg.marks')[0].querySelectorAll('path').length") == 4
        assert tab.ask("[...document.images].every(image => image.complete && image.naturalWidth)")
