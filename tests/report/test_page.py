"""The page as a browser shows it."""

import base64
import re
import time
from dataclasses import replace
from itertools import pairwise, product

import pytest

from dillema.evaluation import predictions
from dillema.report import gallery, write
from tests.backends import Captioner, Gate, Generator, Model, Noise, pipeline
from tests.report.chromium import BROWSER, chromium

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")

HOSTILE = "a clear day <script>document.title = 'owned'</script><img src=x onerror=alert(1)> on a street"
EFFECT = {"n": 3, "sources": 3, "drop": 0.3, "low": 0.1, "high": 0.4, "rough": True, "p": 0.01, "p_adjusted": 0.02}
NONE = EFFECT | {"n": 1, "sources": 1, "low": None, "high": None, "p": None, "p_adjusted": None}
HELD = {"n": 3, "sources": 3, "estimated": 0.3, "true": 0.2, "error": 0.1, "low": 0.0, "high": 0.2, "rough": True}
FIGURES = EFFECT | {
    "metric": "accuracy",
    "images": 9,
    "level": 0.95,
    "original": {"accuracy": 0.9, "f1": 0.8},
    "counterfactual": {"accuracy": 0.6, "f1": 0.5},
    "flip_rate": 0.2,
    "flip_rate_low": 0.1,
    "flip_rate_high": 0.3,
    "any_flip_rate": 0.5,
    "mcnemar_p": 0.0004,
    "per_attribute": [
        {"attribute": "weather", "from": "clear", "to": "foggy"} | EFFECT,
        {"attribute": "weather", "from": "clear", "to": "rainy"} | EFFECT | {"drop": -0.1, "low": -0.2, "p_adjusted": 0.6},
        {"attribute": "time of day", "from": "day", "to": "night"} | NONE,
    ],
    "per_pair": [{"attributes": ["time of day", "weather"], "to": ["night", w]} | EFFECT | {"drop": d} for w, d in (("foggy", 0.4), ("rainy", -0.2))],
    "per_class": {f"class {i}": {"original": 0.9, "counterfactual": i / 50, "drop": 0.9 - i / 50, "low": None, "high": None} for i in range(25)},
    "confusions": [{"true": "sky", "predicted": "road", "original": 1, "counterfactual": 12345, "share": 0.2}],
    "truth": HELD
    | {"mean_absolute_error": 0.1, "rank_correlation": 0.9, "per_attribute": [{"attribute": "weather", "from": "clear", "to": "<b>foggy"} | HELD]},
}

# the contrast of every text that is seen with what lies behind it, as WCAG 2 defines it; those below 4.5 come back
FAINT = """(() => {
  const brush = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    brush.clearRect(0, 0, 1, 1); brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1); return [...brush.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = node => { for (; node; node = node.parentElement) { const c = rgba(getComputedStyle(node).backgroundColor); if (c[3] === 255) return c; }
    return rgba(getComputedStyle(document.documentElement).getPropertyValue("--page")); };
  const faint = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility()) continue;
    const style = getComputedStyle(node), ink = node.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(rgba(ink)), light(behind(node))].sort((x, y) => y - x);
    seen += 1;
    if ((a + .05) / (b + .05) < 4.5) faint.push([texts.currentNode.data.trim(), ink, (a + .05) / (b + .05)]);
  }
  return {seen, faint};
})()"""


@pytest.fixture(scope="module")
def tab():
    with chromium() as tab:
        yield tab


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Returns a run of two models that fails on nights, its data set and its folder, with texts that would harm a careless page."""
    folder = tmp_path_factory.mktemp("run")
    whole = pipeline(folder / "store", dataset=Noise(task="classification"), captioner=Captioner(sentence=HOSTILE), generator=Generator(fails="night"))
    whole = replace(whole, validity=Gate(least=0.498))
    out = whole.run(folder)
    out.results["models"] = {"net": FIGURES | {"all": FIGURES}, "other <i>net": {"metric": "accuracy", "sources": 0, "images": 0, "all": FIGURES}}
    out.results["quality"] = {"ssim": {"images": 9, "mean": 0.5, "low": 0.4, "high": 0.6}, "psnr": {"images": 0, "mean": None, "low": None, "high": None}}
    out.results["quality"]["clip_score"] = {"images": 9, "mean": 21.5, "low": None, "high": None}
    out.results["distance"] = {"features": "<b>net", "originals": 6, "images": 9, "fid": 12.345, "kid": 0.01}
    side = {"a": 0.1, "b": 0.2, "difference": -0.1, "low": -0.2, "high": 0.05, "p": 0.02, "p_adjusted": 0.04}
    sides = {"sources": 6, "rough": True, "level": 0.95, "original": side, "counterfactual": side, "drop": side | {"difference": 0.25}}
    pair = {"a": "net", "b": "other <i>net", "metric": "accuracy", "paired": "images", "images": [9, 9]}
    out.results["comparisons"] = [pair | sides, pair | {"paired": "sources", "images": [0, 0], "sources": 0}]
    out = answered(out, list(out.pairs), whole.dataset, folder)
    write(out, whole.dataset, folder)
    return out, whole.dataset, folder


def answered(out, pairs, dataset, folder):
    """Returns a run with some pairs, in which one model is wrong on fog, and the other on the source scene-2."""
    rows, models = [], {"net": "foggy", "other <i>net": "scene-2"}
    for pair, (model, wrong) in product(pairs, models.items()):
        label = pair.sample.label
        flipped = wrong in f"{pair.counterfactual.text} {pair.id}"
        before = {"label": label, "predicted": label, "certainty": 0.9, "confidence": 0.9, "top5": [label]}
        after = before | {"predicted": (label + flipped) % 3, "confidence": 0.1 if flipped else 0.8}
        rows.append(predictions.row(model, pair.sample.id, pair.sample.id, "original", before))
        rows.append(predictions.row(model, pair.id, pair.sample.id, "counterfactual", after, pair.counterfactual.edits, pair.verdict.valid))
    predictions.write(folder / "said.parquet", rows)
    return replace(out, pairs=pairs, answers={model: predictions.read(folder / "said.parquet", model, dataset) for model in models})


def choose(tab, **choices):
    """Chooses in the filters and returns how many cards there are, and what the page says that there are."""
    for name, value in choices.items():
        tab.ask(f"document.querySelector('select[name={name}]').value = {value!r}")
    tab.ask("document.getElementById('filters').dispatchEvent(new Event('change'))")
    return tab.ask("[cards.childElementCount, document.querySelector('output').value]")


@pytest.mark.parametrize(("width", "media", "scheme"), [(1280, "screen", "light"), (360, "screen", "light"), (360, "screen", "dark"), (720, "print", "dark")])
def test_the_page_fits_is_readable_and_asks_for_nothing(tab, made, width, media, scheme):
    *_, folder = made
    tab.open(folder / "report.html", width, media=media, scheme=scheme)
    tab.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.complaints == []
    assert {address.split(":")[0] for address in tab.requests[1:]} <= {"data"}
    assert tab.ask("document.documentElement.scrollWidth") <= width
    beyond = "e => !e.closest('.scroll, .hidden, svg') && e.getBoundingClientRect().right > innerWidth + 1"
    assert tab.ask(f"[...document.querySelectorAll('body *')].filter({beyond}).length") == 0
    contrast = tab.ask(FAINT)
    assert contrast["seen"] > 100 and contrast["faint"] == []
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == ("rgb(13, 17, 23)" if (media, scheme) == ("screen", "dark") else "rgb(255, 255, 255)")


def test_everything_that_can_be_met_has_a_name(tab, made):
    *_, folder = made
    tab.open(folder / "report.html")
    nodes = [node for node in tab.do("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    met = [(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in nodes]
    named = [(role, name) for role, name in met if role in ("link", "button", "combobox", "image", "region", "form", "navigation", "heading")]
    assert {"link", "button", "combobox", "image", "region", "heading"} <= {role for role, _ in named}
    assert [role for role, name in named if not name] == []
    assert tab.ask("document.documentElement.lang") == "en"
    levels = tab.ask("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels.count(1) == 1 and all(after - before <= 1 for before, after in pairwise(levels))


def test_figures_of_several_models_have_names_and_numbers_of_their_own(tab, made, tmp_path):
    out, dataset, _ = made
    models = {"net": FIGURES | {"all": FIGURES | {"images": 12}}, "other": FIGURES | {"low": -0.05, "all": FIGURES}}
    write(replace(out, results=out.results | {"models": models}), dataset, tmp_path)
    tab.open(tmp_path / "report.html")
    tab.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    names = tab.ask("[...document.querySelectorAll('[role=region]')].map(region => region.getAttribute('aria-label'))")
    assert len(names) > 10 and len(names) == len(set(names))
    seen = tab.ask("document.body.innerText").replace("\N{NO-BREAK SPACE}", " ")
    assert "other shows no change of accuracy that can be told from chance on 9 valid counterfactuals of 3 sources" in seen
    assert "\N{MINUS SIGN}5.0 to 40.0 points lost" in seen
    assert "12 images, valid or not" in seen and seen.count("valid or not") == 1  # the same images are not told of twice


def test_a_phone_shows_whole_tables_and_plots(tab, made):
    *_, folder = made
    tab.open(folder / "report.html", 360)
    tab.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    cut = "[...document.querySelectorAll('main section[id^=model] .scroll')].filter(part => part.scrollWidth > part.clientWidth)"
    assert tab.ask(f"{cut}.map(part => part.getAttribute('aria-label'))") == []
    ticks = tab.ask("[...document.querySelector('.axis').children].map(tick => tick.getBoundingClientRect()).map(({left, right}) => [left, right])")
    assert len(ticks) > 2 and all(right < left for (_, right), (left, _) in pairwise(ticks))
    zero = tab.ask("document.querySelector('.forest .zero').getBoundingClientRect().left")
    assert any(abs((left + right) / 2 - zero) < 2 for left, right in ticks)
    assert tab.ask("document.querySelector('.forest').getBoundingClientRect().width") > 250
    rows = [node for node in tab.do("Accessibility.getFullAXTree")["nodes"] if node.get("role", {}).get("value") == "row"]
    assert len(rows) == tab.ask("document.querySelectorAll('tr').length")  # the plot is still a table


def test_an_image_opens_large_beside_its_original(tab, made):
    out, dataset, folder = made
    tab.open(folder / "report.html")
    ids = tab.ask("[...document.querySelectorAll('#cards h3 button')].map(button => button.textContent)")
    shown = "document.querySelector('dialog[open] h3 a')?.textContent"
    width = "document.querySelector('article img').getBoundingClientRect().width"

    def press(key):
        for kind in ("keyDown", "keyUp"):
            code = {"Enter": 13, "Escape": 27}.get(key, 0)
            tab.do("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text="\r" * (key == "Enter"))
        return tab.ask(f"new Promise(done => setTimeout(() => done({shown}), 50))")

    tab.ask("document.querySelectorAll('#cards h3 button')[1].focus()")
    assert press("Enter") == ids[1]
    assert tab.ask(width.replace("article", "dialog")) > 1.5 * tab.ask(width.replace("article", "#cards article"))
    label = {pair.id: dataset.classes[pair.sample.label] for pair in out.pairs}
    assert f"{ids[1]} truly {label[ids[1]]}, valid, net" in tab.ask("document.querySelector('dialog h3').textContent")
    assert [press("ArrowRight"), press("ArrowLeft"), press("ArrowLeft"), press("ArrowLeft")] == [ids[2], ids[1], ids[0], ids[0]]
    assert press("Escape") is None and tab.ask("document.activeElement.textContent") == ids[1]
    tab.ask("document.querySelectorAll('#cards img')[0].click()")
    assert tab.ask(shown) == ids[0]
    tab.ask("document.querySelector('[data-step=\"1\"]').click()")
    assert tab.ask(shown) == ids[1]
    assert tab.ask(FAINT)["faint"] == [] and tab.complaints == []


def test_filters_choose_the_images(tab, made):
    out, dataset, folder = made
    tab.open(folder / "report.html")
    pairs, everything = out.pairs, {"verdict": "", "edit": "", "outcome": "", "class": "", "model": ""}
    valid = sum(p.verdict.valid for p in pairs)
    foggy = [p for p in pairs if any(e.replacement == "foggy" for e in p.counterfactual.edits)]
    assert 0 < valid < len(pairs) and 0 < len(foggy) < len(pairs)

    def count(**choices):
        cards, words = choose(tab, **(everything | choices))
        assert words == f"{cards} of {len(pairs)} images"
        return cards

    assert tab.ask("cards.childElementCount") == valid  # those that count come first
    assert count() == len(pairs)
    assert count(verdict="valid") == valid and count(verdict="not valid") == len(pairs) - valid
    assert count(edit="weather") == len(pairs) and count(edit="weather → foggy") == len(foggy)
    assert count(**{"class": "road"}) == sum(dataset.classes[p.sample.label] == "road" for p in pairs)
    assert count(outcome="flipped", model="net") == len(foggy)
    assert count(outcome="flipped", model="other <i>net") == sum(p.sample.id == "scene-2" for p in pairs)
    assert count(outcome="flipped") == len({p.id for p in pairs if p.sample.id == "scene-2"} | {p.id for p in foggy})
    assert count(outcome="kept", edit="weather → foggy", model="net") == 0
    tab.ask("document.querySelector('button[type=reset]').click()")
    assert tab.ask("new Promise(done => setTimeout(() => done(cards.childElementCount), 50))") == valid


def test_an_edit_in_a_table_leads_to_its_images(tab, made):
    out, _, folder = made
    tab.open(folder / "report.html")
    tab.ask("document.querySelector('table.plot a').click()")
    assert tab.ask("new Promise(done => setTimeout(() => done(document.querySelector('select[name=edit]').value), 50))") == "weather → foggy"
    valid = [p for p in out.pairs if p.verdict.valid and any(e.replacement == "foggy" for e in p.counterfactual.edits)]
    assert tab.ask("cards.childElementCount") == len(valid)
    tab.ask("const link = document.querySelector('.against + details a'); link.click()")
    assert tab.ask("new Promise(done => setTimeout(() => done(document.querySelector('output').value), 50))").startswith("0 of")


def test_what_models_and_errors_say_is_shown_as_text(tab, made):
    *_, folder = made
    tab.open(folder / "report.html")
    tab.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    seen = tab.ask("document.body.innerText")
    assert "Likeness of valid images to their originals: SSIM 0.50 (0.40 to 0.60), CLIP score with their captions 21.50." in seen
    assert "FID 12.35 and KID 0.0100 from their 6 originals, on features of <b>net" in seen
    assert "net less other <i>net\tthe same 9 images of 6 sources (rough)\t\N{MINUS SIGN}10.0\t\N{MINUS SIGN}10.0\t25.0" in seen
    assert "no valid image and no source in common" in seen
    assert "<script>document.title = 'owned'</script>" in seen and "other <i>net" in seen and "<b>what?</b>" in seen and "no night here" in seen
    assert tab.ask("document.title").startswith("DILLEMA") and tab.ask("document.querySelector('i, b b, [onerror]')") is None
    assert tab.ask("[...document.querySelectorAll('mark')].every(mark => ['clear', 'rainy', 'foggy'].includes(mark.textContent))")


def test_images_beside_the_page_are_shown_and_missed(tab, made, tmp_path, monkeypatch):
    out, dataset, _ = made
    monkeypatch.setattr(gallery, "EMBEDDED", 0)
    write(out, dataset, tmp_path)
    tab.open(tmp_path / "report.html")
    loaded = "new Promise(done => setTimeout(() => done([...document.querySelectorAll('#cards img')].filter(i => i.naturalWidth).length), 500))"
    tab.ask("document.getElementById('images').scrollIntoView()")
    assert tab.ask(loaded) > 0 and tab.complaints == []
    (tmp_path / "report").rename(tmp_path / "moved")
    tab.open(tmp_path / "report.html")
    tab.ask("document.getElementById('images').scrollIntoView()")
    assert tab.ask(loaded) == 0
    assert "is missing: the folder report/ belongs beside this page" in tab.ask("cards.innerText")


def test_five_thousand_images_are_fast(tab, made, tmp_path):
    out, dataset, _ = made
    pairs = [replace(pair, id=f"{pair.id}-{i}") for i in range(5010 // len(out.pairs) + 1) for pair in out.pairs]
    write(answered(out, pairs, dataset, tmp_path), dataset, tmp_path)
    start = time.monotonic()
    tab.open(tmp_path / "report.html")
    assert time.monotonic() - start < 10  # 1 on an idle machine
    assert "more are in generated/" in tab.ask("document.getElementById('images').innerText")
    filtering = "document.getElementById('filters').dispatchEvent(new Event('change'))"
    taken = tab.ask(f"(() => {{ const start = performance.now(); {filtering}; return performance.now() - start; }})()")
    assert taken < 1000  # milliseconds; 20 on an idle machine
    assert tab.ask("cards.childElementCount") == 40
    tab.ask("document.getElementById('more').scrollIntoView()")
    assert tab.ask("new Promise(done => setTimeout(() => done(cards.childElementCount), 500))") > 40


def test_paper_gets_the_most_harmful_of_the_chosen_images_and_says_so(tab, made, tmp_path):
    out, dataset, _ = made
    pairs = [replace(pair, id=f"{pair.id}-{i}") for i in range(60) for pair in out.pairs]
    write(answered(out, pairs, dataset, tmp_path), dataset, tmp_path)
    tab.open(tmp_path / "report.html", 720, media="print")
    choose(tab, edit="weather → foggy")
    tab.ask("document.getElementById('more').click()")
    assert tab.ask("cards.childElementCount") > 40
    seen = tab.ask("document.getElementById('images').innerText")
    valid = sum(p.verdict.valid and any(e.replacement == "foggy" for e in p.counterfactual.edits) for p in pairs)
    assert f"Chosen: {valid} of {len(pairs)} images (change: weather → foggy; verdict: valid); these are the 40 most harmful of them" in seen
    visible = "[...document.querySelectorAll('#cards article')].filter(card => card.checkVisibility())"
    assert tab.ask(f"{visible}.length") == 40
    assert tab.ask(f"{visible}.every(card => [...card.querySelectorAll('img')].every(image => image.complete && image.naturalWidth))")
    assert tab.ask("document.documentElement.scrollWidth") <= 720
    paper = base64.b64decode(tab.do("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert 5 < max(map(int, re.findall(rb"/Count (\d+)", paper))) < 14  # pages, with all the rest


def test_mistakes_of_a_segmenter_are_painted_over_its_images(tab, tmp_path):
    whole = pipeline(tmp_path / "store", models=(Model(name="first"), Model(name="second", gain=-1)))
    out = whole.run(tmp_path)
    write(out, whole.dataset, tmp_path)
    tab.open(tmp_path / "report.html")
    seen = "[...document.querySelectorAll('.mistakes')].filter(image => image.checkVisibility() && image.naturalWidth).map(image => image.src)"
    assert tab.ask(seen) == []
    tab.ask("document.querySelector('#filters [aria-pressed]').click()")
    first = tab.ask(f"new Promise(done => setTimeout(() => done({seen}), 200))")
    assert len(first) == 2 * len(out.pairs) and tab.ask("document.querySelectorAll('[aria-pressed=true]').length") == 2
    choose(tab, model="second")
    second = tab.ask(f"new Promise(done => setTimeout(() => done({seen}), 200))")
    assert len(second) == len(first) and set(first).isdisjoint(second)
    tab.ask("document.querySelector('#cards button').click()")
    assert tab.ask("new Promise(done => setTimeout(() => done(document.querySelectorAll('dialog .mistakes').length), 200))") == 2
    assert tab.ask("document.getElementById('legend').innerText").endswith("sky road car") and tab.complaints == []
    base, layer = tab.ask("['img', '.mistakes'].map(part => Object.values(document.querySelector(`dialog ${part}`).getBoundingClientRect().toJSON()))")
    assert base == layer
