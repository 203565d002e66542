"""The images of the page, as a browser shows them."""

import base64
import json
import re
import time
from itertools import product

import pytest

from dillema import report
from dillema.report import thumbnails
from tests.backends import Model, run_pipeline
from tests.report.chromium import BROWSER, FAINT
from tests.report.page_run import copy_run, write_predictions

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")


def choose(tab, **choices):
    """Chooses in the filters and returns how many cards there are, and what the page says that there are."""
    for name, value in choices.items():
        tab.ask(f"document.querySelector('select[name={name}]').value = {value!r}")
    tab.ask("document.getElementById('filters').dispatchEvent(new Event('change'))")
    return tab.ask("[cards.childElementCount, document.querySelector('output').value]")


def test_an_image_opens_large_beside_its_original(tab, run_folder):
    folder = run_folder.path
    tab.open(folder / "report.html")
    ids = tab.ask("[...document.querySelectorAll('#cards h3 button')].map(button => button.textContent)")
    shown = "document.querySelector('dialog[open] h3 a')?.textContent"
    width = "document.querySelector('article img').getBoundingClientRect().width"

    def press(key):
        for kind in ("keyDown", "keyUp"):
            code = {"Enter": 13, "Escape": 27}.get(key, 0)
            tab.do(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                text="\r" * (key == "Enter"),
            )
        return tab.ask(f"new Promise(done => setTimeout(() => done({shown}), 50))")

    tab.ask("document.querySelectorAll('#cards h3 button')[1].focus()")
    assert press("Enter") == ids[1]
    assert tab.ask(width.replace("article", "dialog")) > 1.5 * tab.ask(
        width.replace("article", "#cards article")
    )
    label = {
        image.id: run_folder.labels.classes[int(image.label["label"])] for image in run_folder.generated()
    }
    assert f"{ids[1]}, class: {label[ids[1]]}, valid, net" in tab.ask(
        "document.querySelector('dialog h3').textContent"
    )
    assert [press("ArrowRight"), press("ArrowLeft"), press("ArrowLeft"), press("ArrowLeft")] == [
        ids[2],
        ids[1],
        ids[0],
        ids[0],
    ]
    assert press("Escape") is None and tab.ask("document.activeElement.textContent") == ids[1]
    tab.ask("document.querySelectorAll('#cards img')[0].click()")
    assert tab.ask(shown) == ids[0]
    tab.ask("document.querySelector('[data-step=\"1\"]').click()")
    assert tab.ask(shown) == ids[1]
    captions = tab.ask(
        "[...document.querySelectorAll('dialog figcaption')].map(caption => caption.innerText)"
    )
    assert captions[2].startswith("control image (grey)") and captions[3].startswith("nothing changed")
    assert tab.ask(FAINT)["faint"] == [] and tab.complaints == []


def test_filters_choose_the_images(tab, run_folder):
    tab.open(run_folder.path / "report.html")
    images, everything = (
        list(run_folder.generated()),
        {"validity": "", "edit": "", "outcome": "", "class": "", "model": ""},
    )
    valid = sum(image.verdict.valid for image in images)
    foggy = [image for image in images if any(e.replacement == "foggy" for e in image.counterfactual.edits)]
    weather = [image for image in images if any(e.attribute == "weather" for e in image.counterfactual.edits)]
    assert 0 < valid < len(images) and 0 < len(foggy) < len(images)

    def count(**choices):
        cards, words = choose(tab, **(everything | choices))
        assert words == f"{cards} of {len(images)} images"
        return cards

    assert tab.ask("cards.childElementCount") == valid  # those that count come first
    assert count() == len(images)
    assert count(validity="valid") == valid and count(validity="rejected") == len(images) - valid
    assert count(edit="weather") == len(weather) and count(edit="weather → foggy") == len(foggy)
    roads = sum(run_folder.labels.classes[int(image.label["label"])] == "road" for image in images)
    assert count(**{"class": "road"}) == roads
    assert count(outcome="flipped", model="net") == len(foggy)
    of_scene = [image for image in images if image.source == "scene-2"]
    assert count(outcome="flipped", model="other <i>net") == len(of_scene)
    assert count(outcome="flipped") == len({image.id for image in [*of_scene, *foggy]})
    choose(tab, **(everything | {"outcome": "kept", "edit": "weather → foggy", "model": "net"}))
    assert tab.ask("cards.innerText").startswith("No image matches this choice")
    tab.ask("document.querySelector('button[type=reset]').click()")
    assert tab.ask("new Promise(done => setTimeout(() => done(cards.childElementCount), 50))") == valid


def test_an_edit_in_a_table_leads_to_its_images(tab, run_folder):
    tab.open(run_folder.path / "report.html")
    tab.ask("document.querySelector('table.plot a').click()")
    chosen = "document.querySelector('select[name=edit]').value"
    assert tab.ask(f"new Promise(done => setTimeout(() => done({chosen}), 50))") == "weather → foggy"
    foggy = [
        image
        for image in run_folder.generated()
        if any(e.replacement == "foggy" for e in image.counterfactual.edits)
    ]
    assert tab.ask("cards.childElementCount") == sum(image.verdict.valid for image in foggy)
    tab.ask("const link = document.querySelector('.scatter + details a'); link.click()")
    shown = "document.querySelector('output').value"
    assert tab.ask(f"new Promise(done => setTimeout(() => done({shown}), 50))").startswith("0 of")


def test_images_beside_the_page_are_shown_and_missed(tab, run_folder, tmp_path, monkeypatch):
    folder = copy_run(run_folder, tmp_path / "run")
    monkeypatch.setattr(thumbnails, "EMBEDDED_BYTES", 0)
    report.write(folder)
    tab.open(folder.path / "report.html")
    images = "[...document.querySelectorAll('#cards img')].filter(i => i.naturalWidth).length"
    loaded = f"new Promise(done => setTimeout(() => done({images}), 500))"
    tab.ask("document.getElementById('images').scrollIntoView()")
    assert tab.ask(loaded) > 0 and tab.complaints == []
    (folder.path / "report").rename(folder.path / "moved")
    tab.open(folder.path / "report.html")
    tab.ask("document.getElementById('images').scrollIntoView()")
    assert tab.ask(loaded) == 0
    assert "is missing: the folder report/ belongs beside this page" in tab.ask("cards.innerText")


def repeat_images(folder, times):
    """Repeats the images of a run under other names."""
    file = folder.path / "generated" / "metadata.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    lines = []
    for number, row in product(range(times), rows):
        name = row["file_name"].removesuffix(".png") + f"-{number}.png"
        (folder.path / "generated" / name).hardlink_to(folder.path / "generated" / row["file_name"])
        lines.append(json.dumps(row | {"file_name": name}))
    file.write_text("\n".join(lines))
    results = {name: value for name, value in folder.results.items() if name != "digest"}
    folder.write_results(results | {"counts": results["counts"] | {"generated": len(lines)}})
    write_predictions(folder)
    report.write(folder)
    return len(lines)


def test_five_thousand_images_are_fast(tab, run_folder, tmp_path):
    folder = copy_run(run_folder, tmp_path / "run")
    repeat_images(folder, 5010 // folder.count_generated() + 1)
    start = time.monotonic()
    tab.open(folder.path / "report.html")
    assert time.monotonic() - start < 10  # 1 on an idle machine
    assert "more are in generated/" in tab.ask("document.getElementById('images').innerText")
    filtering = "document.getElementById('filters').dispatchEvent(new Event('change'))"
    taken = tab.ask(
        f"(() => {{ const start = performance.now(); {filtering}; return performance.now() - start; }})()"
    )
    assert taken < 1000  # milliseconds; 20 on an idle machine
    assert tab.ask("cards.childElementCount") == 40
    tab.ask("document.getElementById('more').scrollIntoView()")
    assert tab.ask("new Promise(done => setTimeout(() => done(cards.childElementCount), 500))") > 40


def test_paper_gets_the_first_of_the_chosen_images_and_says_so(tab, run_folder, tmp_path):
    folder = copy_run(run_folder, tmp_path / "run")
    total = repeat_images(folder, 60)
    tab.open(folder.path / "report.html", 720, media="print")
    choose(tab, edit="weather → foggy")
    tab.ask("document.getElementById('more').click()")
    assert tab.ask("cards.childElementCount") > 40
    seen = tab.ask("document.getElementById('images').innerText")
    foggy = [
        image
        for image in folder.generated()
        if any(e.replacement == "foggy" for e in image.counterfactual.edits)
    ]
    valid = sum(image.verdict.valid for image in foggy)
    assert (
        f"Chosen: {valid} of {total} images (change: weather → foggy; validity: valid); these are the 40"
        in seen
    )
    visible = "[...document.querySelectorAll('#cards article')].filter(card => card.checkVisibility())"
    assert tab.ask(f"{visible}.length") == 40
    complete = "[...card.querySelectorAll('img')].every(image => image.complete && image.naturalWidth)"
    assert tab.ask(f"{visible}.every(card => {complete})")
    assert tab.ask("document.documentElement.scrollWidth") <= 720
    paper = base64.b64decode(tab.do("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert 5 < max(map(int, re.findall(rb"/Count (\d+)", paper))) < 16  # pages, with all the rest


def test_errors_of_a_segmenter_are_painted_over_its_images(tab, tmp_path):
    models = (Model(name="first"), Model(name="second", gain=-1))
    folder, _ = run_pipeline(tmp_path / "run", tmp_path / "store", models=models)
    report.write(folder)
    tab.open(folder.path / "report.html")
    errors = "[...document.querySelectorAll('.errors')]"
    errors += ".filter(image => image.checkVisibility() && image.naturalWidth)"
    seen = f"{errors}.map(image => image.src)"
    legend = "document.getElementById('legend')"
    assert tab.ask(seen) == [] and not tab.ask(f"{legend}.checkVisibility()")
    tab.ask("document.querySelector('#filters [aria-pressed]').click()")
    first = tab.ask(f"new Promise(done => setTimeout(() => done({seen}), 200))")
    assert len(first) == 2 * folder.count_generated()
    assert tab.ask("document.querySelectorAll('[aria-pressed=true]').length") == 2
    choose(tab, model="second")
    second = tab.ask(f"new Promise(done => setTimeout(() => done({seen}), 200))")
    assert len(second) == len(first) and set(first).isdisjoint(second)
    tab.ask("document.querySelector('#cards button').click()")
    in_dialog = "document.querySelectorAll('dialog .errors').length"
    assert tab.ask(f"new Promise(done => setTimeout(() => done({in_dialog}), 200))") == 2
    assert tab.ask(f"{legend}.innerText").endswith("sky road car") and tab.complaints == []
    boxes = "['img', '.errors'].map(part => document.querySelector(`dialog ${part}`))"
    boxes += ".map(part => part.getBoundingClientRect().toJSON())"
    base, layer = tab.ask(f"{boxes}.map(Object.values)")
    assert base == layer
