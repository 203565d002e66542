"""Raters at the keyboard of a real browser, with a real server that may be killed."""

import csv
import shutil

import pytest

from dillema.review.answers import AnswerStore, read_csv
from dillema.review.items import Review
from dillema.review.page import render_page
from dillema.run_folder import RunFolder
from tests.backends import Gate, Noise, run_pipeline
from tests.report.chromium import BROWSER, FAINT, chromium
from tests.review.raters import answer_of, begin, judge, port_of, served, start, wait_for, wait_for_images

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium and no Chrome on the PATH")


def stored(review, rater):
    """Returns the answers of a rater on the disk, by item."""
    return {a.item: (a.real, a.label, a.edit) for a in AnswerStore.of(review).all(rater)}


def expected(review, rater):
    return {item: answer_of(rater, item) for item in range(len(review.items))}


@pytest.mark.parametrize("count", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_no_verdict_is_lost_through_a_reload_a_killed_server_and_two_raters(finished_run, tmp_path, count):
    folder = tmp_path / "run"
    source = large_run(tmp_path) if count > 60 else finished_run.path
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("review"))
    process, address = start(folder, count)
    with chromium() as anna, chromium() as ben:
        begin(anna, address, "anna")
        begin(ben, address, "ben b")
        items = wait_for(anna, "JSON.parse(document.getElementById('data').textContent).items.length")
        assert items == count
        for item in range(items):
            if item == items // 4:
                anna.open(address)  # a reload: the rater of the tab goes on
            if item == items // 2:
                for tab in (anna, ben):
                    wait_for_images(tab, address, range(item, item + 3))
                process.kill()  # kill -9
                process.wait()
            if item == items // 2 + 3:  # answered meanwhile without a server
                waiting = wait_for(anna, "document.getElementById('status').innerText.includes('not saved')")
                assert waiting
                process, again = start(folder, count, port_of(address))
                assert again == address
            judge(anna, "anna", item)
            judge(ben, "ben b", item)
        for tab in (anna, ben):
            wait_for(tab, "document.getElementById('status').innerText.includes('all saved')")
            assert f"{items} of {items} judged" in tab.ask("document.getElementById('status').innerText")
    process.kill()
    process.wait()
    review = Review.read(RunFolder.open(folder))
    assert len(review.items) == items
    for rater in ("anna", "ben b"):
        assert stored(review, rater) == expected(review, rater)


def large_run(tmp_path):
    folder, _ = run_pipeline(
        tmp_path / "large",
        tmp_path / "store",
        dataset=Noise(count=130),
        counterfactuals=3,
        placebos=1,
        gates=[Gate(least=0.5)],
    )
    return folder.path


def test_an_answer_can_be_changed_and_a_mask_is_shown_on_demand(run_copy):
    with served(run_copy.path, 12) as address, chromium() as tab:
        begin(tab, address, "anna")
        judge(tab, "anna", 0)
        judge(tab, "anna", 1)
        wait_for(tab, "document.body.dataset.item === '2'")
        tab.press("ArrowLeft")
        wait_for(tab, "document.body.dataset.item === '1'")
        pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map(button => button.value)"
        real, label, edit = answer_of("anna", 1)
        assert tab.ask(pressed) == [str(real), label, edit]
        assert tab.ask("document.querySelectorAll('.mask').length") == 0
        tab.press("m")
        wait_for(tab, "document.querySelectorAll('.mask').length === 2")
        assert wait_for(tab, "document.getElementById('legend').innerText").split() == ["sky", "road", "car"]
        tab.press("m")
        assert tab.ask("document.querySelectorAll('.mask').length") == 0
        tab.press("Backspace")
        assert tab.ask(pressed) == []
        for key in "5", "d", "j":
            tab.press(key)
        wait_for(tab, "document.body.dataset.item === '2'")
        wait_for(tab, "document.getElementById('status').innerText.includes('all saved')")
        tab.press("ArrowRight")  # 2 is not judged yet: it cannot be skipped
        assert tab.ask("document.body.dataset.item") == "2"
        assert tab.complaints == [] and tab.ask(FAINT)["faint"] == []
        # whatever models wrote is text, and nothing tells a control from the others
        assert tab.ask("document.querySelectorAll('#text b, #text i, #text script, #text img').length") == 0
        page = tab.ask("document.documentElement.outerHTML")
        assert "placebo" not in page and "counterfactual" not in page and "scene-" not in page
        assert all(url.startswith((address, "data:", "blob:")) for url in tab.requests)
    review = Review.read(run_copy)
    assert stored(review, "anna") == {0: answer_of("anna", 0), 1: (5, "yes", "yes")}


def test_a_page_in_one_file_saves_its_answers_as_csv(run_copy, tmp_path):
    review = Review.open(run_copy, 12, 0.2, 0)
    page = tmp_path / "page.html"
    page.write_text(render_page(review, embedded=True), encoding="utf-8")
    with chromium() as tab:
        tab.do("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
        begin(tab, page, "Eve")
        for item in range(5):
            judge(tab, "Eve", item)
        tab.open(page)  # closed and opened again: the answers are still there
        for item in range(5, 12):
            judge(tab, "Eve", item)
        wait_for(tab, "document.getElementById('status').innerText.includes('12 of 12 judged')")
        tab.press("m")
        tab.ask("document.getElementById('save').click()")
        while not (files := list((tmp_path / "saved").glob("*.csv"))):
            tab.ask("0")
        assert tab.complaints == []
        assert [url for url in tab.requests if not url.startswith(("data:", "blob:", "file:"))] == []
    answers = read_csv(files[0], review)
    assert {a.item: (a.real, a.label, a.edit) for a in answers} == expected(review, "Eve")
    assert {a.rater for a in answers} == {"Eve"}
    with files[0].open(newline="") as file:
        assert next(csv.reader(file))[:3] == ["review", "rater", "item"]
