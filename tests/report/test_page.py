"""The page in a browser."""

import re
from itertools import pairwise

import pytest

from dillema import report
from dillema.run_folder import RunFolder
from tests.report.chromium import BROWSER, FAINT
from tests.report.page_run import EFFECT, FIGURES, MODELS, change_results, copy_run

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")


@pytest.mark.parametrize(
    ("width", "media", "scheme"),
    [(1280, "screen", "light"), (360, "screen", "light"), (360, "screen", "dark"), (720, "print", "dark")],
)
def test_the_page_fits_is_readable_and_asks_for_nothing(tab, run_folder, width, media, scheme):
    folder = run_folder.path
    tab.open(folder / "report.html", width, media=media, scheme=scheme)
    tab.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.complaints == []
    assert {address.split(":")[0] for address in tab.requests[1:]} <= {"data"}
    assert tab.ask("document.documentElement.scrollWidth") <= width
    beyond = "e => !e.closest('.scroll, .hidden, svg') && e.getBoundingClientRect().right > innerWidth + 1"
    assert tab.ask(f"[...document.querySelectorAll('body *')].filter({beyond}).length") == 0
    contrast = tab.ask(FAINT)
    assert contrast["seen"] > 100 and contrast["faint"] == []
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(13, 17, 23)" if (media, scheme) == ("screen", "dark") else "rgb(255, 255, 255)"
    )


def test_everything_that_can_be_met_has_a_name(tab, run_folder):
    folder = run_folder.path
    tab.open(folder / "report.html")
    nodes = [node for node in tab.do("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    met = [(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in nodes]
    named = [
        (role, name)
        for role, name in met
        if role in ("link", "button", "combobox", "image", "region", "form", "navigation", "heading")
    ]
    assert {"link", "button", "combobox", "image", "region", "heading"} <= {role for role, _ in named}
    assert [role for role, name in named if not name] == []
    assert tab.ask("document.documentElement.lang") == "en"
    levels = tab.ask("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels.count(1) == 1 and all(after - before <= 1 for before, after in pairwise(levels))


def test_figures_of_several_models_have_names_and_numbers_of_their_own(tab, run_folder, tmp_path):
    folder = copy_run(run_folder, tmp_path / "run")
    models = {
        "net": FIGURES | {"all": FIGURES | {"images": 12}},
        "other": FIGURES | {"low": -0.05, "p_adjusted": 0.3, "all": FIGURES},
    }
    change_results(folder, models=models)
    folder = RunFolder.open(folder.path)
    report.write(folder)
    tab.open(folder.path / "report.html")
    tab.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    names = tab.ask(
        "[...document.querySelectorAll('[role=region]')].map(region => region.getAttribute('aria-label'))"
    )
    assert len(names) > 10 and len(names) == len(set(names))
    shown_text = tab.ask("document.body.innerText").replace("\N{NO-BREAK SPACE}", " ")
    assert "Accuracy of other drops by 30.0 points" in shown_text and "which may be chance" in shown_text
    assert "\N{MINUS SIGN}5.0 to 40.0" in shown_text
    assert (
        "12 images, valid or not" in shown_text and shown_text.count("valid or not") == 1
    )  # the same images do not stand there twice


def test_a_phone_shows_whole_tables_and_plots(tab, run_folder):
    folder = run_folder.path
    tab.open(folder / "report.html", 360)
    tab.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    scrolling = "[...document.querySelectorAll('main section[id^=model] .scroll')]"
    cut = f"{scrolling}.filter(part => part.scrollWidth > part.clientWidth)"
    assert tab.ask(f"{cut}.map(part => part.getAttribute('aria-label'))") == []
    ticks = tab.ask(
        "[...document.querySelector('.axis').children].map(tick => tick.getBoundingClientRect())"
        ".map(({left, right}) => [left, right])"
    )
    assert len(ticks) > 2 and all(right < left for (_, right), (left, _) in pairwise(ticks))
    zero = tab.ask("document.querySelector('.forest .zero').getBoundingClientRect().left")
    assert any(abs((left + right) / 2 - zero) < 2 for left, right in ticks)
    assert tab.ask("document.querySelector('.forest').getBoundingClientRect().width") > 250
    rows = [
        node
        for node in tab.do("Accessibility.getFullAXTree")["nodes"]
        if node.get("role", {}).get("value") == "row"
    ]
    assert len(rows) == tab.ask("document.querySelectorAll('tr').length")  # the plot is still a table


def test_what_models_and_errors_say_is_shown_as_text(tab, run_folder):
    tab.open(run_folder.path / "report.html")
    tab.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    shown_text = tab.ask("document.body.innerText").replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "Similarity of valid images to their originals: SSIM 0.50 (0.40 to 0.60), "
        "CLIP score with their captions 21.50." in shown_text
    )
    assert "FID 12.35 and KID 0.0100 from their 6 originals, on features of <b>net" in shown_text
    minus = "\N{MINUS SIGN}"
    assert (
        f"net minus other <i>net\tthe same 9 images of 6 sources (rough)\t{minus}10.0\t{minus}10.0\t25.0"
        in shown_text
    )
    assert "no valid image and no source in common" in shown_text
    for text in (
        "<script>document.title = 'owned'</script>",
        "other <i>net",
        "<b>what?</b>",
        "no night here",
        "<b>pole",
    ):
        assert text in shown_text
    assert tab.ask("document.title").startswith("DILLEMA")
    assert tab.ask("document.querySelector('i:not(#legend i), b b, [onerror]')") is None
    values = "['clear', 'day', 'rainy', 'foggy', 'snowy', 'dusk']"
    assert tab.ask(
        f"[...document.querySelectorAll('mark')].every(mark => {values}.includes(mark.textContent))"
    )


def test_the_first_screen_says_what_holds(tab, run_folder):
    tab.open(run_folder.path / "report.html")
    shown_text = re.sub(r"\s+", " ", tab.ask("document.querySelector('header').innerText"))
    warnings = shown_text.index("Check net first: on the originals its accuracy is 90.0 %, and always giving")
    verdict = shown_text.index(
        "Accuracy of net drops by 30.0 points (95 % interval, rough with so few sources: 10.0 to 40.0)"
    )
    placebo = shown_text.index(
        "Where nothing was changed, the generator alone does this: "
        "accuracy drops by 10.0 points (0.0 to 20.0)"
    )
    worst = shown_text.index(
        "accuracy drops by 30.0 points (10.0 to 40.0) beyond the generator alone: 20.0 points (5.0 to 30.0)"
    )
    assert warnings < verdict < placebo < worst
    assert "the edit by itself 20.0 points (\N{MINUS SIGN}10.0 to 40.0)" in shown_text
    assert (
        "Some edits are harmful, but they were always made together, so the data cannot tell "
        "which of them is: weather → rainy always together with time of day → dusk." in shown_text
    )
    # only what is shown to be harmful, and what cannot be told apart once
    conditions = tab.ask("[...document.querySelectorAll('header .worst b')].map(b => b.innerText)")
    assert conditions == ["weather → foggy", "weather → rainy"]
    assert "always together with time of day → dusk: the data cannot tell which of them it is" in shown_text
    body = re.sub(r"\s+", " ", tab.ask("document.querySelector('main').innerText"))
    assert "nothing changed: the generator alone" in body
    assert "1 edit of too few sources to be sure (at least 6 are needed)" in body
    assert "weather → rainy 9 images of 8 sources; always together with time of day → dusk" in body
    assert "12,344 20.0 %" in body.replace("\N{NO-BREAK SPACE}", " ")  # a confusion: its increase, its share
    assert "by itself 20.0 points (\N{MINUS SIGN}10.0 to 40.0)" in body
    assert "by itself: cannot be told from so few images" in body
    assert "The same by original value" not in body  # five values, two rows of original values


def test_the_table_of_metrics_has_the_row_of_the_placebo(tab, run_folder):
    tab.open(run_folder.path / "report.html")
    cells = "row => [...row.cells].map(cell => cell.innerText.trim())"
    rows = tab.ask(f"[...document.querySelectorAll('#model-1 table tbody tr')].map({cells})")
    heading = rows.index(["nothing changed: the generator alone, 8 images of 8 sources"])
    assert [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in rows[heading + 1]] == [
        "accuracy",
        "90.0 %",
        "80.0 %",
        "10.0\n0.0 to 20.0",
    ]


def test_rows_of_original_values_are_behind_a_click(tab, run_folder, tmp_path):
    folder = copy_run(run_folder, tmp_path / "run")
    foggy = FIGURES["per_value"][0]
    change_results(folder, models={"net": FIGURES | {"per_value": [foggy], "all": FIGURES}})
    report.write(folder)
    tab.open(folder.path / "report.html")
    rows = "[...document.querySelectorAll('#model-1 details')].filter(d => d.innerText.includes('original'))"
    assert tab.ask(f"{rows}.map(d => d.open)") == [False]
    tab.ask(f"{rows}[0].open = true")
    shown = tab.ask(f"[...{rows}[0].querySelectorAll('tbody th')].map(cell => cell.innerText)")
    assert shown == ["weather: clear → foggy", "weather: rainy → foggy"]
    cells = "row => [...row.cells].slice(3).map(cell => cell.innerText.trim())"
    drops = tab.ask(f"[...{rows}[0].querySelectorAll('tbody tr')].map({cells})")
    assert drops == [["30.0\n10.0 to 40.0", "20.0\n5.0 to 30.0"]] * 2


@pytest.mark.parametrize(("width", "lines"), [(390, 3), (800, 2), (1280, 1), (1920, 1)])
def test_three_worst_conditions_fit_in_a_row_of_a_desktop(tab, run_folder, tmp_path, width, lines):
    folder = copy_run(run_folder, tmp_path / "run")
    rows = [{"attribute": "weather", "to": value} | EFFECT for value in ("foggy", "rainy", "snowy")]
    change_results(folder, models={"net": FIGURES | {"per_value": rows, "all": FIGURES}})
    report.write(folder)
    tab.open(folder.path / "report.html", width)
    tops = tab.ask("[...document.querySelectorAll('header .worst li')].map(li => li.offsetTop)")
    assert len(tops) == 3 and len(set(tops)) == lines
    assert (
        len(set(tab.ask("[...document.querySelectorAll('header .worst li')].map(li => li.offsetWidth)"))) == 1
    )
    pictures = tab.ask("[...document.querySelectorAll('header .worst img')].map(image => image.src)")
    generated = pictures[1::2]
    assert len(set(generated)) == len(generated) > 1


def test_confusions_are_shown_as_shares_of_the_true_class(tab, run_folder):
    tab.open(run_folder.path / "report.html")
    titles = tab.ask("[...document.querySelectorAll('.confusion caption')].map(e => e.innerText)")
    assert titles == ["originals", "counterfactuals"] * len(MODELS)
    cells = "[...document.querySelectorAll('#model-1 .confusion')].map(table => "
    cells += "[...table.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.innerText)))"
    originals, counterfactuals = tab.ask(cells)
    classes = [row[0] for row in originals]
    assert originals == [[name, *("100" if other == name else "" for other in classes)] for name in classes]
    assert counterfactuals != originals
    for _, *shares in counterfactuals:
        assert sum(float(share or 0) for share in shares) == pytest.approx(100, abs=1)
    link = tab.ask("document.querySelector('#model-1 a[href$=csv]').getAttribute('href')")
    assert (run_folder.path / link).exists()
